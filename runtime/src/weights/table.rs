//! Rows that tokens look up.

use std::sync::Arc;

use codec_api::{Result, RowReader};

/// The rows of an embedding. They may be the rows of the output head too.
#[derive(Debug)]
pub(crate) struct Table {
    /// The first row of each reader, and the reader.
    parts: Vec<(usize, Arc<dyn RowReader>)>,
}

impl Table {
    /// Puts readers together, one below the other.
    pub(crate) fn new(readers: Vec<Arc<dyn RowReader>>) -> Self {
        let mut rows = 0;
        let mut parts = Vec::new();
        for reader in readers {
            parts.push((rows, Arc::clone(&reader)));
            rows += reader.shape().0;
        }
        Self { parts }
    }

    /// Reads row `row`.
    ///
    /// # Errors
    /// Those of the reader.
    pub(crate) fn read(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let at = self.parts.partition_point(|(first, _)| *first <= row).saturating_sub(1);
        let (first, reader) = &self.parts[at];
        reader.read(row - first..row - first + 1, out)
    }
}
