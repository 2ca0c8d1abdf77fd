//! Whole files or nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::Builder;

/// Whether [`write_file`] can write here, found out before the work whose result goes there.
///
/// # Errors
/// If something other than a regular file is there (a link, a directory, a device: renaming would put a file in its
/// place), or if no file can be made beside it. The message names the file.
pub fn check_file(path: &Path) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()));
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() => {
            let reason = "there is something else than a regular file; name the file itself";
            Err(named(io::Error::new(io::ErrorKind::InvalidInput, reason)))
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(named(e)),
        _ => tempfile::tempfile_in(directory(path)).map(drop).map_err(named),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file under a temporary name beside it, syncs it, and renames it: readers see the old file or
/// the whole new one.
///
/// # Errors
/// What `write` or the file system answers; the old file is still there then. The message names the file.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    replace(path, write).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    check_file(path)?;
    let directory = directory(path);
    let mut builder = Builder::new();
    builder.prefix(".netweight-").suffix(".tmp");
    // Temporary files are private; a report is as readable as the user's other new files.
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
