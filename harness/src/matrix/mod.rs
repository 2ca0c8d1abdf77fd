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
mod earlier;
pub(crate) mod errors;
mod machine;
mod row;
mod timing;

use std::fmt::Debug;

use codec_api::{Cancel, Registry};

use crate::suite::{Item, Suite};

pub use columns::{Column, columns_for};
pub use earlier::{Earlier, OtherRun};
pub use machine::{Machine, load_average, memcpy_mb_per_s, peak_rss, rss};
pub use row::{Row, Status};

/// Options of a run besides suite and columns.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options<'a> {
    /// The registry that reads encoded tensors back.
    pub registry: &'a Registry,
    /// Gives calibration to every codec that uses it, where the tensor has some. Otherwise only
    /// codecs that require it get it.
    pub calibrated: bool,
    /// Commit of the program, for the column `commit`.
    pub commit: Option<String>,
    /// Cells that an earlier part of this run measured.
    pub earlier: Option<&'a Earlier>,
    /// Stops the run early.
    pub cancel: &'a Cancel,
}

impl Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("calibrated", &self.calibrated)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

impl<'a> Options<'a> {
    /// No calibration, commit or earlier cells.
    pub fn new(registry: &'a Registry) -> Self {
        static NEVER: Cancel = Cancel::new();
        Self { registry, calibrated: false, commit: None, earlier: None, cancel: &NEVER }
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

    /// Takes the rows of these cells instead of measuring them again.
    #[must_use]
    pub fn earlier(mut self, earlier: &'a Earlier) -> Self {
        self.earlier = Some(earlier);
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
    /// The run has to measure this many cells.
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
/// model seed of the codecs. A tensor is cast and hashed when its turn comes.
///
/// An error or a panic of a codec gives a `failed` cell; it never ends the run. After
/// [`Options::cancel`] the function returns the rows finished so far.
#[tracing::instrument(level = "debug", skip_all, fields(suite = suite.name))]
pub fn run(suite: &Suite, columns: &[Column], options: &Options<'_>, observer: &mut dyn Observer) -> Vec<Row> {
    let known =
        |item: &Item, column: &Column| options.earlier.and_then(|earlier| earlier.row(&item.name, &column.spec));
    let machine = Machine::this();
    let cells = suite.items.iter().flat_map(|item| columns.iter().map(move |column| (item, column)));
    observer.start(cells.filter(|(item, column)| known(item, column).is_none()).count());
    let mut rows = Vec::new();
    for item in &suite.items {
        if columns.iter().all(|column| known(item, column).is_some()) {
            rows.extend(columns.iter().filter_map(|column| known(item, column).cloned()));
            continue;
        }
        let (hash, prepared) = (suite.hash(item), suite.prepared(item));
        let source = cell::Source::new(&item.name, prepared.as_deref(), suite.seed);
        for column in columns {
            if let Some(row) = known(item, column) {
                rows.push(row.clone());
                continue;
            }
            observer.begin(&item.name, &column.spec);
            let mut row = Row::new(suite, prepared.as_deref().unwrap_or(item), column, options, &machine);
            row.tensor_hash.clone_from(&hash);
            if cell::measure(&source, column, options, &mut row).is_err() {
                return rows;
            }
            observer.finish(&row);
            rows.push(row);
        }
    }
    rows
}
