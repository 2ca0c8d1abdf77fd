//! What can go wrong in planning.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of planning. Its text names the file, the entry and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("`{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A line of a file of JSON lines.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// An entry of a fleet.
    #[error("fleet `{fleet}`, {entry}: {reason}")]
    Entry {
        /// The file of the fleet, or its name.
        fleet: String,
        /// The entry, such as ``hardware `T4` ``.
        entry: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A request or the traffic of a simulation.
    #[error("{0}")]
    Input(String),
}

impl Error {
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        Self::File { path: path.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn line(path: &Path, line: usize, reason: impl Into<String>) -> Self {
        Self::Line { path: path.to_owned(), line, reason: reason.into() }
    }

    pub(crate) fn entry(fleet: &str, entry: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Entry { fleet: fleet.to_owned(), entry: entry.into(), reason: reason.into() }
    }
}

/// `Ok` for a finite number that is not negative; its key and value otherwise.
pub(crate) fn not_negative(key: &str, value: f64) -> Result<(), String> {
    let fits = value.is_finite() && value >= 0.0;
    if fits { Ok(()) } else { Err(format!("`{key}` is {value}; it has to be a finite number of at least 0")) }
}

/// `Ok` for a finite number above zero; its key and value otherwise.
pub(crate) fn positive(key: &str, value: f64) -> Result<(), String> {
    let fits = value.is_finite() && value > 0.0;
    if fits { Ok(()) } else { Err(format!("`{key}` is {value}; it has to be a finite number above 0")) }
}

/// `Ok` for a share.
pub(crate) fn share(key: &str, value: f64) -> Result<(), String> {
    let fits = (0.0..=1.0).contains(&value);
    if fits { Ok(()) } else { Err(format!("`{key}` is {value}; it has to be between 0 and 1")) }
}
