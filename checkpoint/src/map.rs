//! Memory-mapped files.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a file read-only. The map lives until the last slice of the returned bytes is dropped.
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    // Not every system can map an empty file.
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private to this process and read-only, so this program never writes to it.
    // Another program may still change or shorten the file while it is mapped. No system call
    // excludes that, and every reader of mapped models has the same condition. The docs of
    // `Checkpoint::open` state it.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
