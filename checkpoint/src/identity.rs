//! Whether two paths lead to the same file.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::directory;

/// The file that a path leads to. Two identities are equal if writing to one path changes what the
/// other one reads: `a` and `./a`, a symbolic link and its target, on Unix also two hard links.
///
/// An identity holds for the moment at which it is taken: a file that is created or renamed later
/// may change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileIdentity(Identity);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    /// Device and inode of an existing file.
    #[cfg(unix)]
    Inode(u64, u64),
    /// Without inodes, and for a file that does not exist yet: its path without links.
    Path(PathBuf),
}

impl FileIdentity {
    /// The identity of a file or directory. The file need not exist, but its directory must. For a
    /// symbolic link to a missing file, it is the file that writing to the link would create.
    ///
    /// # Errors
    /// If the directory does not exist, or a part of the path may not be read.
    pub fn of(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut path = path.as_ref().to_owned();
        // The loop ends: `metadata` refuses a chain of links that is too long, or a circle.
        loop {
            match fs::metadata(&path) {
                Ok(metadata) => return Self::existing(&path, &metadata),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) => {}
            }
            match fs::read_link(&path) {
                Ok(target) => path = directory(&path).join(target),
                Err(_) => return missing(&path).map(Self),
            }
        }
    }

    /// The identity of the existing file `path` with these metadata.
    pub(crate) fn existing(path: &Path, metadata: &Metadata) -> io::Result<Self> {
        existing(path, metadata).map(Self)
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere the path is resolved, which may fail")]
fn existing(_: &Path, metadata: &Metadata) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    Ok(Identity::Inode(metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn existing(path: &Path, _: &Metadata) -> io::Result<Identity> {
    path.canonicalize().map(Identity::Path)
}

fn missing(path: &Path) -> io::Result<Identity> {
    let name = path.file_name().ok_or(io::ErrorKind::NotFound)?;
    Ok(Identity::Path(directory(path).canonicalize()?.join(name)))
}
