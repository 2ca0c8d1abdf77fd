//! The results of a run as terminal tables, JSON Lines, CSV and Markdown, and their comparison with
//! an earlier run.
//!
//! The summary has one line per codec, the other tables have one per cell. Writers accept any
//! [`io::Write`]; [`write_file`] replaces a whole file or leaves the old one. A [`Journal`]
//! grows by a line when a cell ends.

mod compare;
mod file;
pub(crate) mod grid;
mod journal;
mod lines;
mod sort;
mod summary;

use std::fmt;
use std::io::{self, Write};

use crate::matrix::{Machine, Row, load_average, memcpy_mb_per_s};
use crate::suite::Suite;
use crate::text::{printable, wrap};

pub use compare::{Change, Comparison, GROWTH_TOLERANCE, HEADER_TOLERANCE, Key, compare};
pub use file::{check_file, write_file};
pub use journal::Journal;
pub use lines::{ReadError, read_jsonl, write_csv, write_jsonl};
pub use sort::{UnknownColumn, sort_by_column};
pub use summary::{Summary, summarise};

/// How a terminal table looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The main columns. With a width, names are shortened so that each line has at most so many
    /// characters; see [`text::table`](crate::text::table).
    Narrow(Option<usize>),
    /// Every column at its full width.
    Wide,
}

/// The properties of a whole run: the line above the tables.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunInfo {
    /// The suite's name.
    pub suite: String,
    /// Its seed.
    pub seed: u64,
    /// The suite's notes about its tensors.
    pub notes: Vec<String>,
    /// Commit of the program.
    pub commit: Option<String>,
    /// The machine of the run.
    pub machine: Machine,
    /// Speed of a 64 MiB memcpy, 10⁶ bytes per second.
    pub memcpy_mb_per_s: f64,
    /// Load average of the last minute; `None` where the system does not report it.
    pub load_average: Option<f64>,
}

impl RunInfo {
    /// Measures memcpy (about 0.1 s) and copies the rest from suite and machine.
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

/// Writes the run's line and the table of codecs for a terminal. Below the narrow table, a line
/// counts the unsupported and failed cells, if there are any.
///
/// # Errors
/// The error of `out`.
pub fn write_summary_table(
    out: &mut dyn Write,
    info: &RunInfo,
    summaries: &[Summary],
    layout: Layout,
) -> io::Result<()> {
    match layout {
        Layout::Wide => {
            head(out, info, None, "")?;
            writeln!(out, "{}", grid::summary(summaries).terminal(None))
        }
        Layout::Narrow(width) => {
            head(out, info, width, "")?;
            writeln!(out, "{}", grid::short_summary(summaries).terminal(width))?;
            write_headers(out, summaries)?;
            let sum = |count: fn(&Summary) -> usize| summaries.iter().map(count).sum::<usize>();
            let (ok, unsupported, failed) = (sum(|s| s.ok), sum(|s| s.unsupported), sum(|s| s.failed));
            if unsupported + failed > 0 {
                writeln!(
                    out,
                    "{} cells: {ok} ok, {unsupported} unsupported, {failed} failed",
                    ok + unsupported + failed
                )?;
            }
            Ok(())
        }
    }
}

/// Says how much the headers of small tensors add at most, where that is not negligible.
fn write_headers(out: &mut dyn Write, summaries: &[Summary]) -> io::Result<()> {
    const NEGLIGIBLE: f64 = 0.01;
    let most = summaries.iter().filter_map(Summary::header_bits_per_weight).reduce(f64::max);
    match most.filter(|bits| *bits >= NEGLIGIBLE) {
        Some(_) => writeln!(out, "headers add up to {} bits/w; --wide shows their bytes", grid::digits(most, 3)),
        None => Ok(()),
    }
}

/// Writes the table of cells for a terminal. The narrow one names no reasons.
///
/// # Errors
/// The error of `out`.
pub fn write_cell_table(out: &mut dyn Write, rows: &[Row], layout: Layout) -> io::Result<()> {
    let table = match layout {
        Layout::Wide => grid::cells(rows).terminal(None),
        Layout::Narrow(width) => grid::short_cells(rows).terminal(width),
    };
    writeln!(out, "{table}")
}

/// Writes the run's line, the table of codecs and the table of cells as Markdown, with every
/// column.
///
/// # Errors
/// The error of `out`.
pub fn write_markdown(out: &mut dyn Write, info: &RunInfo, summaries: &[Summary], rows: &[Row]) -> io::Result<()> {
    head(out, info, None, "\n")?;
    writeln!(out, "## Codecs\n\n{}", grid::summary(summaries).markdown())?;
    writeln!(out, "## Cells\n\n{}", grid::cells(rows).markdown())
}

fn head(out: &mut dyn Write, info: &RunInfo, width: Option<usize>, gap: &str) -> io::Result<()> {
    // The suite's notes name tensors.
    let line = printable(&info.to_string());
    writeln!(out, "{}{gap}", wrap(&line, ", ", width.unwrap_or(usize::MAX)))?;
    info.notes.iter().try_for_each(|note| writeln!(out, "note: {}{gap}", printable(note)))
}
