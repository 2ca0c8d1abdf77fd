//! JSON Lines and CSV: one line per cell, the keys of [`Row`].

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::matrix::Row;

/// The reason why a report could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line is not a row.
    #[error("{}, line {line}: not a row of a matrix report: {source}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The error in the line.
        source: serde_json::Error,
    },
}

/// Writes one JSON object per row.
///
/// # Errors
/// The error of `out`.
pub fn write_jsonl(out: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads the output of [`write_jsonl`]. The reader skips empty lines, and a last line that is
/// incomplete because the writing process was killed.
///
/// # Errors
/// [`ReadError`] with file and line.
pub fn read_jsonl(path: impl AsRef<Path>) -> Result<Vec<Row>, ReadError> {
    read_lines(path.as_ref()).map(|lines| lines.rows)
}

/// The content of a report.
#[derive(Default)]
pub(super) struct Lines {
    pub rows: Vec<Row>,
    /// The number of rows on lines with a line end.
    pub whole_rows: usize,
    /// The length of these lines.
    pub whole_bytes: u64,
}

pub(super) fn read_lines(path: &Path) -> Result<Lines, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let (mut lines, mut line, mut number) = (Lines::default(), Vec::new(), 0);
    while file.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        number += 1;
        let whole = line.ends_with(b"\n");
        if !line.trim_ascii().is_empty() {
            match serde_json::from_slice(&line) {
                Ok(row) => lines.rows.push(row),
                Err(error) if !whole && error.is_eof() => return Ok(lines),
                Err(source) => return Err(ReadError::Row { path: path.to_owned(), line: number, source }),
            }
        }
        if whole {
            lines.whole_rows = lines.rows.len();
            lines.whole_bytes += line.len() as u64;
        }
        line.clear();
    }
    Ok(lines)
}

/// Writes a line of keys, then the rows. Unknown values are empty; a shape is written `64x128`.
///
/// # Errors
/// The error of `out`.
pub fn write_csv(out: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    for (i, row) in rows.iter().enumerate() {
        let Value::Object(object) = serde_json::to_value(row)? else { continue };
        if i == 0 {
            csv.write_record(object.keys())?;
        }
        csv.write_record(object.values().map(text))?;
    }
    csv.flush()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(axes) => axes.iter().map(text).collect::<Vec<_>>().join("x"),
        other => other.to_string(),
    }
}
