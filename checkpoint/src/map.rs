//! Memory-mapped files.

#![allow(unsafe_code)]

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::Error;
use crate::identity::FileIdentity;

/// What a file was when it was mapped, and its map.
pub(crate) struct Mapped {
    identity: FileIdentity,
    length: u64,
    /// `None` for an empty file.
    map: Option<Arc<Mmap>>,
}

/// Counts what a reader of a whole model reads, so that it gives back the memory now and then.
#[derive(Default)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    /// Bytes between two releases.
    const INTERVAL: u64 = 64 << 20;

    /// Adds bytes that were read; calls `release` if enough have come together.
    pub(crate) fn add(&self, bytes: u64, release: impl FnOnce()) {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before / Self::INTERVAL != (before + bytes) / Self::INTERVAL {
            release();
        }
    }
}

/// The memory maps of the files of a model, which it keeps alive.
#[derive(Clone, Default)]
pub struct Pages(Vec<Arc<Mmap>>);

impl Pages {
    pub(crate) fn new<'a>(files: impl Iterator<Item = &'a Mapped>) -> Self {
        Self(files.filter_map(|file| file.map.clone()).collect())
    }

    /// Takes the pages of some bytes of a map out of the memory of this process, and those of their
    /// neighbours in the same 2 MiB; bytes outside the maps are left alone. Pages that are read
    /// again come from the system's cache or from the file.
    pub fn release(&self, bytes: &[u8]) {
        let start = bytes.as_ptr();
        if let Some(map) = self.0.iter().find(|map| map.as_ptr_range().contains(&start)) {
            let offset = start.addr() - map.as_ptr().addr();
            let end = (offset + bytes.len()).next_multiple_of(TOGETHER);
            release(map, offset / TOGETHER * TOGETHER..map.len().min(end));
        }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({} files)", self.0.len())
    }
}

/// Bytes that Linux may map together when one of them is read: what was released before comes back
/// with its neighbours, and goes only with them.
const TOGETHER: usize = 2 << 20;

/// Takes pages out of the memory of this process. Elsewhere than on Unix it does nothing.
#[cfg_attr(not(unix), allow(unused_variables))]
fn release(map: &Mmap, range: Range<usize>) {
    #[cfg(unix)]
    {
        // SAFETY: the advice drops private copies of changed pages, of which a read-only map has
        // none; the other pages are read from the file again. That file must not change while it is
        // mapped, which is the condition of the map itself.
        let released =
            unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
        if let Err(error) = released {
            tracing::debug!(%error, "the pages of the map stay in memory");
        }
    }
}

/// Owner of the bytes of a map.
struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
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

impl Mapped {
    /// Takes the pages that were read so far out of the memory of this process: a reader of a whole
    /// model would otherwise hold all of it. Pages that are read again come from the system's cache
    /// or from the file. Elsewhere than on Unix it does nothing.
    pub(crate) fn release(&self) {
        if let Some(map) = &self.map {
            release(map, 0..map.len());
        }
    }
}

/// Maps the file that was opened as `path`, read-only. The map lives until the last slice of the
/// returned bytes is dropped.
pub(crate) fn map(file: &File, path: &Path) -> io::Result<(Bytes, Mapped)> {
    let metadata = file.metadata()?;
    let (identity, length) = (FileIdentity::existing(path, &metadata)?, metadata.len());
    // Not every system can map an empty file.
    if length == 0 {
        return Ok((Bytes::new(), Mapped { identity, length, map: None }));
    }
    // SAFETY: the map is read-only. This program writes to a mapped file in one place: a commit
    // opens its new files when they have their heads, and reads a section after all its bytes were
    // written (`plan::copy`). Another program may still change or shorten the file while it is
    // mapped. No system call excludes that, and every reader of mapped models has the same
    // condition. The docs of `Checkpoint::open` state it, and `Mapped::check` finds a file that has
    // become shorter.
    let map = Arc::new(unsafe { Mmap::map(file)? });
    Ok((Bytes::from_owner(Shared(Arc::clone(&map))), Mapped { identity, length, map: Some(map) }))
}
