//! The matrix: every tensor of a suite through every codec.
//!
//! A cell encodes and certifies a tensor, serialises the result, reads it back, decodes **what was
//! read back**, and measures the error again: it must be the one that the certificate states. Rows
//! are ordered by tensor, then by column.
//!
//! Speeds are valid for one run on one machine: print [`memcpy_mb_per_s`] beside them.

mod cell;
mod columns;
mod decoder;
pub(crate) mod errors;
mod machine;
mod row;
mod timing;

use std::fmt::Debug;

use codec_api::{Cancel, Registry};
use regex::Regex;

use crate::suite::Suite;

pub use columns::{Column, columns_for};
pub use machine::{Machine, load_average, memcpy_mb_per_s};
pub use row::{Row, Status};

/// Options of a run besides suite and columns.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options<'a> {
    /// The registry that reads encoded tensors back.
    pub registry: &'a Registry,
    /// Measures only tensors whose name matches.
    pub include: Option<Regex>,
    /// Gives calibration to every codec that uses it, where the tensor has some. Otherwise only
    /// codecs that require it get it.
    pub calibrated: bool,
    /// Commit of the program, for the column `commit`.
    pub commit: Option<String>,
    /// Stops the run early.
    pub cancel: &'a Cancel,
}

impl Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("include", &self.include)
            .field("calibrated", &self.calibrated)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

impl<'a> Options<'a> {
    /// All tensors, without calibration and commit.
    pub fn new(registry: &'a Registry) -> Self {
        static NEVER: Cancel = Cancel::new();
        Self { registry, include: None, calibrated: false, commit: None, cancel: &NEVER }
    }

    /// Keeps only the tensors whose name `pattern` matches.
    #[must_use]
    pub fn include(mut self, pattern: Regex) -> Self {
        self.include = Some(pattern);
        self
    }

    /// Whether codecs that only use calibration get it too.
    #[must_use]
    pub fn calibrated(mut self, calibrated: bool) -> Self {
        self.calibrated = calibrated;
        self
    }

    /// Sets the commit of the program.
    #[must_use]
    pub fn commit(mut self, commit: impl Into<String>) -> Self {
        self.commit = Some(commit.into());
        self
    }

    /// Lets `cancel` stop the run.
    #[must_use]
    pub fn cancel(mut self, cancel: &'a Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}

/// Receives the progress of a run; `()` ignores it.
pub trait Observer {
    /// The run has this many cells.
    fn start(&mut self, cells: usize);
    /// This cell begins.
    fn begin(&mut self, tensor: &str, codec: &str);
    /// The cell has ended with this row.
    fn finish(&mut self, row: &Row);
}

impl Observer for () {
    fn start(&mut self, _: usize) {}
    fn begin(&mut self, _: &str, _: &str) {}
    fn finish(&mut self, _: &Row) {}
}

/// Measures every codec on every tensor, on the current thread. The seed of the suite is also the
/// model seed of the codecs.
///
/// An error or a panic of a codec gives a `failed` cell; it never ends the run. After
/// [`Options::cancel`] the function returns the rows finished so far.
#[tracing::instrument(level = "debug", skip_all, fields(suite = suite.name))]
pub fn run(suite: &Suite, columns: &[Column], options: &Options<'_>, observer: &mut dyn Observer) -> Vec<Row> {
    let included = |name: &str| options.include.as_ref().is_none_or(|pattern| pattern.is_match(name));
    let items: Vec<_> = suite.items.iter().filter(|item| included(&item.name)).collect();
    let machine = Machine::this();
    observer.start(items.len() * columns.len());
    let mut rows = Vec::new();
    for item in items {
        let source = cell::Source::new(item, suite.seed);
        for column in columns {
            observer.begin(&item.name, &column.spec);
            let mut row = Row::new(suite, item, column, options, &machine);
            if cell::measure(&source, column, options, &mut row).is_err() {
                return rows;
            }
            observer.finish(&row);
            rows.push(row);
        }
    }
    rows
}
