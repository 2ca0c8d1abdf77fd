//! Vectors of all tokens in a file, in the order of the batches.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use checkpoint::AtomicFile;

use crate::error::{Error, Result};

/// Writes vectors. The file gets its name at the end.
pub(super) struct Writer {
    file: AtomicFile,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: AtomicFile::create(path)? })
    }

    /// Appends the vectors of a batch.
    pub(super) fn push(&mut self, values: &[f32]) -> Result<()> {
        Ok(self.file.write(bytemuck::cast_slice(values))?)
    }

    /// Waits until all is on the disk.
    pub(super) fn finish(self) -> Result<()> {
        Ok(self.file.commit()?)
    }
}

/// Reads what a [`Writer`] has written.
pub(super) struct Reader {
    file: File,
    path: PathBuf,
}

impl Reader {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(Self { file, path })
    }

    /// The next so many values.
    pub(super) fn next(&mut self, count: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0f32; count];
        let read = self.file.read_exact(bytemuck::cast_slice_mut(&mut values));
        read.map_err(|error| unreadable(&self.path, &error))?;
        Ok(values)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let reason = format!("it cannot be read: {error}; delete its folder, and give the command again");
    Error::File { path: path.to_owned(), reason }
}
