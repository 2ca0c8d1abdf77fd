//! What a run found, as terminal tables, JSON Lines, CSV and Markdown, and compared with an earlier run.
//!
//! The summary has one line per codec, the other tables one per cell. Writers take any [`io::Write`];
//! [`write_file`] puts a whole file in place or leaves the old one.

mod compare;
mod file;
mod grid;
mod lines;
mod sort;
mod summary;

use std::fmt;
use std::io::{self, Write};

use crate::matrix::{Machine, Row, load_average, memcpy_mb_per_s};
use crate::suite::Suite;
use crate::text::printable;

pub use compare::{Change, Comparison, GROWTH_TOLERANCE, HEADER_TOLERANCE, Key, compare};
pub use file::{check_file, write_file};
pub use lines::{ReadError, read_jsonl, write_csv, write_jsonl};
pub use sort::{UnknownColumn, sort_by_column};
pub use summary::{Summary, summarise};

/// What the whole run has in common: the line above the tables.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunInfo {
    /// The suite's name.
    pub suite: String,
    /// Its seed.
    pub seed: u64,
    /// What the suite says about itself.
    pub notes: Vec<String>,
    /// Commit of the program.
    pub commit: Option<String>,
    /// What the run was made on.
    pub machine: Machine,
    /// Speed of a 64 MiB memcpy, 10⁶ bytes per second.
    pub memcpy_mb_per_s: f64,
    /// Load average of the last minute, where the system tells.
    pub load_average: Option<f64>,
}

impl RunInfo {
    /// Measures memcpy (about a tenth of a second) and takes the rest from suite and machine.
    pub fn measure(suite: &Suite, commit: Option<&str>) -> Self {
        Self {
            suite: suite.name.clone(),
            seed: suite.seed,
            notes: suite.notes.clone(),
            commit: commit.map(str::to_owned),
            machine: Machine::this(),
            memcpy_mb_per_s: memcpy_mb_per_s(),
            load_average: load_average(),
        }
    }
}

impl fmt::Display for RunInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let load = self.load_average.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
        write!(
            f,
            "suite {}, seed {}, commit {}, cpu {}, simd {}, rustc {}, memcpy {:.0} MB/s, load {load}",
            self.suite,
            self.seed,
            or_unknown(&self.commit),
            or_unknown(&self.machine.cpu),
            self.machine.simd,
            or_unknown(&self.machine.rustc),
            self.memcpy_mb_per_s,
        )
    }
}

/// Writes the run's line and the table of codecs for a terminal.
///
/// # Errors
/// What `out` answers.
pub fn write_summary_table(out: &mut dyn Write, info: &RunInfo, summaries: &[Summary]) -> io::Result<()> {
    head(out, info, "")?;
    writeln!(out, "{}", grid::summary(summaries).terminal())
}

/// Writes the table of cells for a terminal.
///
/// # Errors
/// What `out` answers.
pub fn write_cell_table(out: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    writeln!(out, "{}", grid::cells(rows).terminal())
}

/// Writes the run's line, the table of codecs and the table of cells as Markdown.
///
/// # Errors
/// What `out` answers.
pub fn write_markdown(out: &mut dyn Write, info: &RunInfo, summaries: &[Summary], rows: &[Row]) -> io::Result<()> {
    head(out, info, "\n")?;
    writeln!(out, "## Codecs\n\n{}", grid::summary(summaries).markdown())?;
    writeln!(out, "## Cells\n\n{}", grid::cells(rows).markdown())
}

fn head(out: &mut dyn Write, info: &RunInfo, gap: &str) -> io::Result<()> {
    // The suite's notes name tensors.
    writeln!(out, "{}{gap}", printable(&info.to_string()))?;
    info.notes.iter().try_for_each(|note| writeln!(out, "note: {}{gap}", printable(note)))
}
