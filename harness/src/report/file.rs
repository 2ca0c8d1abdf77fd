//! Files that are replaced whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::Builder;

/// Checks that [`write_file`] can write here, before a long run produces the content.
///
/// # Errors
/// If something other than a regular file is there (a link, a directory, a device: renaming would
/// replace it by a file), or if no file can be created next to it. The message names the file.
pub fn check_file(path: &Path) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()));
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() => {
            let reason = "it is not a regular file; name the file itself";
            Err(named(io::Error::new(io::ErrorKind::InvalidInput, reason)))
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(named(e)),
        _ => tempfile::tempfile_in(directory(path)).map(drop).map_err(named),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a temporary file in the same directory, syncs it, and renames it: readers see the old
/// file or the whole new one.
///
/// # Errors
/// The error of `write` or of the file system; the old file then stays. The message names the file.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    replace(path, write).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    check_file(path)?;
    let directory = directory(path);
    let mut builder = Builder::new();
    builder.prefix(".netweight-").suffix(".tmp");
    // Temporary files are private; a report gets the permissions of the user's other new files.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = BufWriter::new(builder.tempfile_in(directory)?);
    write(&mut file)?;
    let file = file.into_inner()?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // Only some systems can sync a directory, and the file is already in place.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}
