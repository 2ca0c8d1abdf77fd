//! A report that grows while a run goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::lines::{ReadError, read_lines};
use super::write_file;
use crate::matrix::Row;

/// A JSON Lines report that gets each row when its cell ends: an interrupted run keeps its rows.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// A report without rows; it replaces the old file.
    ///
    /// # Errors
    /// As [`write_file`].
    pub fn create(path: &Path) -> io::Result<Self> {
        write_file(path, |_| Ok(()))?;
        Self::open(path, 0)
    }

    /// An existing report, which goes on behind its last whole line. The rows of the whole lines go
    /// through `check` before the file is changed.
    ///
    /// # Errors
    /// As [`read_jsonl`](super::read_jsonl), or if the file cannot be written.
    pub fn resume<T, E: From<ReadError>>(
        path: &Path,
        check: impl FnOnce(Vec<Row>) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let mut lines = read_lines(path)?;
        lines.rows.truncate(lines.whole_rows);
        let checked = check(lines.rows)?;
        let failed = |source| ReadError::Io { path: path.to_owned(), source };
        Ok((Self::open(path, lines.whole_bytes).map_err(failed)?, checked))
    }

    /// Cuts the file to `length` and appends to it.
    fn open(path: &Path, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(length)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a row with one write, so that a process that is killed leaves at most one torn line.
    ///
    /// # Errors
    /// The system's error, with the file.
    pub fn push(&mut self, row: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.path.display()));
        self.file.write_all(&line).map_err(named)
    }
}
