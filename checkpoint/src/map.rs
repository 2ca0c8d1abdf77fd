//! Memory-mapped files.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::Error;
use crate::identity::FileIdentity;

/// What a file was when it was mapped.
pub(crate) struct Mapped {
    identity: FileIdentity,
    length: u64,
}

impl Mapped {
    /// Compares the file, which `path` led to when it was mapped, with its map.
    ///
    /// # Errors
    /// [`Error::Shortened`] if it is shorter: reading the map beyond the new end would kill the
    /// process. A file that was removed, or replaced by another of its name, is no error: its
    /// content lives as long as the map.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        match fs::metadata(path) {
            Ok(now)
                if now.len() < self.length
                    && FileIdentity::existing(path, &now).ok().as_ref() == Some(&self.identity) =>
            {
                Err(Error::Shortened { path: path.to_owned(), before: self.length, now: now.len() })
            }
            _ => Ok(()),
        }
    }
}

/// Maps the file that was opened as `path`, read-only. The map lives until the last slice of the
/// returned bytes is dropped.
pub(crate) fn map(file: &File, path: &Path) -> io::Result<(Bytes, Mapped)> {
    let metadata = file.metadata()?;
    let mapped = Mapped { identity: FileIdentity::existing(path, &metadata)?, length: metadata.len() };
    // Not every system can map an empty file.
    if mapped.length == 0 {
        return Ok((Bytes::new(), mapped));
    }
    // SAFETY: the map is private to this process and read-only, so this program never writes to it.
    // Another program may still change or shorten the file while it is mapped. No system call
    // excludes that, and every reader of mapped models has the same condition. The docs of
    // `Checkpoint::open` state it, and `Mapped::check` finds a file that has become shorter.
    let map = unsafe { Mmap::map(file)? };
    Ok((Bytes::from_owner(map), mapped))
}
