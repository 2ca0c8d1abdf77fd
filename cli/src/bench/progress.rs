//! How far a run has come.

use harness::matrix::{Observer, Row};
use indicatif::{ProgressBar, ProgressStyle};

use crate::text;

/// A bar on standard error, if that is a terminal.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that is not shown yet.
    pub fn new() -> Self {
        Self(ProgressBar::hidden())
    }
}

impl Observer for Bar {
    fn start(&mut self, cells: usize) {
        self.0 = ProgressBar::new(cells as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} cells, {eta} left  {wide_msg}") {
            self.0.set_style(style);
        }
    }

    fn begin(&mut self, tensor: &str, codec: &str) {
        self.0.set_message(format!("{}  {codec}", text::printable(tensor)));
    }

    fn finish(&mut self, _: &Row) {
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
