//! What happens when a cell ends: the bar moves, and the JSON report gets its row.

use std::io;

use harness::matrix::{Observer, Row};
use harness::report::Journal;

use super::progress::Progress;

/// Progress and report of a run.
#[derive(Debug)]
pub struct Recorder {
    progress: Progress,
    journal: Option<Journal>,
    error: Option<io::Error>,
}

impl Recorder {
    /// Rows go to `journal`, if there is one.
    pub fn new(journal: Option<Journal>) -> Self {
        Self { progress: Progress::new(), journal, error: None }
    }

    /// # Errors
    /// The first error of writing a row. No row was written after it: the run went on.
    pub fn finish(self) -> io::Result<()> {
        self.error.map_or(Ok(()), Err)
    }
}

impl Observer for Recorder {
    fn start(&mut self, cells: usize) {
        self.progress.start(cells);
    }

    fn begin(&mut self, tensor: &str, codec: &str) {
        self.progress.begin(tensor, codec);
    }

    fn finish(&mut self, row: &Row) {
        self.progress.finish(row);
        if let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.push(row)) {
            (self.journal, self.error) = (None, Some(error));
        }
    }
}
