//! Multiplication with the stored values only.

use codec_api::{LinearOp, Result, check_batch};

use crate::form::{Batches, Positions};
use crate::grid::Grid;

/// A matrix as values at their positions.
#[derive(Debug)]
pub(crate) struct SparseLinear {
    grid: Grid,
    positions: Box<dyn Positions>,
    values: Vec<f32>,
}

impl SparseLinear {
    /// `positions` must be valid, with one value for each.
    pub(crate) fn new(grid: Grid, positions: Box<dyn Positions>, values: Vec<f32>) -> Self {
        Self { grid, positions, values }
    }
}

/// The running sums of one row, and the output they go to.
struct Row<'a> {
    index: usize,
    /// One sum for each vector of the batch.
    sums: Vec<f64>,
    rows: usize,
    y: &'a mut [f32],
}

impl Row<'_> {
    /// Writes the sums of the current row and starts row `index`.
    fn go_to(&mut self, index: usize) {
        for (sum, y) in self.sums.iter_mut().zip(self.y.chunks_mut(self.rows)) {
            y[self.index] = *sum as f32;
            *sum = 0.0;
        }
        self.index = index;
    }
}

impl LinearOp for SparseLinear {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let Grid { rows, columns, .. } = self.grid;
        check_batch((rows, columns), x, y)?;
        y.fill(0.0);
        let mut values = self.values.as_slice();
        let mut row = Row { index: 0, sums: vec![0.0; y.len() / rows.max(1)], rows, y };
        let mut multiply = |mut batch: &[usize]| {
            while let Some(first) = batch.first() {
                if first / columns != row.index {
                    row.go_to(first / columns);
                }
                let start = row.index * columns;
                let (here, later) = batch.split_at(batch.partition_point(|position| *position < start + columns));
                let (now, after) = values.split_at(here.len());
                for (sum, x) in row.sums.iter_mut().zip(x.chunks(columns)) {
                    let products = here.iter().zip(now).map(|(at, w)| f64::from(*w) * f64::from(x[at - start]));
                    *sum = products.fold(*sum, |sum, product| sum + product);
                }
                (batch, values) = (later, after);
            }
            Ok(())
        };
        self.positions.visit(&mut Batches::new(rows * columns, &mut multiply))?;
        if rows > 0 {
            row.go_to(0);
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        // Products are exact in f64; each sum rounds once in f64, and the result once to f32.
        f32::EPSILON + self.grid.columns as f32 * f64::EPSILON as f32
    }

    fn resident_bytes(&self) -> u64 {
        self.positions.bytes() + 4 * self.values.len() as u64
    }
}
