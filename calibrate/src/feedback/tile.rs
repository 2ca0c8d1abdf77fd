//! A tile: the weights between which feedback is added one by one.

use std::ops::Range;

use codec_api::{PanelCut, PanelEncoder};

use simd::kernel;

use super::work::Matrices;
use crate::blocks::steps;
use crate::error::Result;
use crate::padded::Padded;

/// A tile, row by row, with the feedback of all weights to its left and above it. The buffers are
/// reused by the next tile.
#[derive(Debug, Default)]
pub(super) struct Tile {
    pub(super) matrices: Matrices,
    /// The feedback from each column to all columns of the tile, and from each row to all rows;
    /// zeros to those that are not in later blocks. Empty if there is none.
    of_columns: Vec<f32>,
    of_rows: Vec<f32>,
    /// A block.
    values: Vec<f32>,
}

impl Tile {
    /// Encodes the blocks of some rows and columns, whose feedback has these factors.
    pub(super) fn encode(
        &mut self,
        encoder: &mut (dyn PanelEncoder + '_),
        cut: PanelCut,
        (rows, of_rows): (&Range<usize>, Option<&Padded>),
        (columns, of_columns): (&Range<usize>, Option<&Padded>),
    ) -> Result<()> {
        let by_rows = of_rows.map(|turned| |k: usize, to: usize| turned.row(to)[k]);
        let by_columns = of_columns.map(|unit| |k: usize, to: usize| unit.row(k)[to]);
        later(by_rows, rows, cut.rows.get(), &mut self.of_rows);
        later(by_columns, columns, cut.columns.get(), &mut self.of_columns);
        for block in steps(rows.clone(), cut.rows.get()) {
            let places = block.start - rows.start..block.end - rows.start;
            if !self.of_rows.is_empty() {
                self.feed_rows(&places, rows.len(), columns.len());
            }
            for part in steps(columns.clone(), cut.columns.get()) {
                let first = part.start - columns.start;
                self.values.clear();
                self.matrices.block(places.clone(), first..first + part.len(), columns.len(), &mut self.values);
                encoder.encode(block.clone(), part.clone(), &mut self.values)?;
                self.take(&places, first..first + part.len(), columns.len());
            }
        }
        Ok(())
    }

    /// Adds the feedback of the tile's rows above to the sums of some rows.
    fn feed_rows(&mut self, rows: &Range<usize>, height: usize, width: usize) {
        let (above, sums) = (&self.matrices.targets[..rows.start * width], &mut self.matrices.sums);
        for (row, sums) in rows.clone().zip(sums[rows.start * width..].chunks_exact_mut(width)) {
            for (factors, residuals) in self.of_rows.chunks_exact(height).zip(above.chunks_exact(width)) {
                add(factors[row], residuals, sums);
            }
        }
    }

    /// Takes the decoded values of a block, and adds its errors to the targets on its right.
    fn take(&mut self, rows: &Range<usize>, columns: Range<usize>, width: usize) {
        let Matrices { weights, targets, sums } = &mut self.matrices;
        for (row, decoded) in rows.clone().zip(self.values.chunks_exact(columns.len())) {
            let row = row * width..(row + 1) * width;
            let (weights, targets, sums) = (&mut weights[row.clone()], &mut targets[row.clone()], &mut sums[row]);
            for (column, decoded) in columns.clone().zip(decoded) {
                let error = weights[column] - decoded;
                (weights[column], sums[column]) = (*decoded, error);
                targets[column] -= decoded;
                if !self.of_columns.is_empty() {
                    add(error, &self.of_columns[column * width..][..width], targets);
                }
            }
        }
    }
}

/// The factors from each row or column of `range` to each other one, row-major; zeros to those that
/// are not in later blocks. Nothing for a single block.
fn later(factor: Option<impl Fn(usize, usize) -> f32>, range: &Range<usize>, block: usize, out: &mut Vec<f32>) {
    out.clear();
    let Some(factor) = factor.filter(|_| range.len() > block) else { return };
    for block in steps(range.clone(), block) {
        for k in block.clone() {
            out.resize(out.len() + block.end - range.start, 0.0);
            out.extend((block.end..range.end).map(|to| factor(k, to)));
        }
    }
}

kernel! {
    /// `to += factor · values`.
    fn add<'a>(_simd, factor: f32, values: &'a [f32], to: &'a mut [f32]) {
        for (to, value) in to.iter_mut().zip(values) {
            *to += factor * value;
        }
    }
}
