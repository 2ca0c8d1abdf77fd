//! Files as bytes, without reading them.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a file, read-only. The map lives as long as the last slice of the bytes.
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    // Not every system maps an empty file.
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private to this process and read-only, so nothing in this program writes to it. What
    // remains is another program that changes or shortens the file while it is mapped: no system call excludes
    // that, and every reader of mapped models has the same condition. `Checkpoint::open` states it.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
