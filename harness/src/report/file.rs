//! Whole files or nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::Builder;

/// Writes a file under a temporary name beside it, syncs it, and renames it: readers see the old file or
/// the whole new one.
///
/// # Errors
/// What `write` or the file system answers; the old file is still there then. The message names the file.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    replace(path, write).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
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
