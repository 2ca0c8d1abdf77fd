//! An opened matrix: its rows, and products with them.

use std::ops::Range;

use codec_api::util::Checksum;
use codec_api::{Cancel, Inputs, LinearOp, Product, Result, RowReader, check_product, check_rows};

use crate::form::{Batches, Positions};
use crate::grid::Grid;
use crate::scatter::{PIECE, expand, scatter};

/// A matrix as values at their positions.
#[derive(Debug)]
pub(crate) struct Matrix {
    grid: Grid,
    positions: Box<dyn Positions>,
    values: Vec<f32>,
}

impl Matrix {
    /// `positions` must be valid, with one value for each.
    pub(crate) fn new(grid: Grid, positions: Box<dyn Positions>, values: Vec<f32>) -> Self {
        Self { grid, positions, values }
    }

    /// Indices of the values of these rows.
    fn values_of(&self, rows: &Range<usize>) -> Range<usize> {
        self.positions.start(rows.start)..self.positions.start(rows.end)
    }

    fn bytes(&self) -> u64 {
        self.positions.bytes() + size_of_val(&*self.values) as u64
    }
}

impl RowReader for Matrix {
    fn shape(&self) -> (usize, usize) {
        (self.grid.rows, self.grid.columns)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows((self.grid.rows, self.grid.columns), &rows, out)?;
        let (first, cancel) = (rows.start * self.grid.columns, Cancel::new());
        let values = &self.values[self.values_of(&rows)];
        let units = |values| bytemuck::cast_slice::<f32, [u8; size_of::<f32>()]>(values);
        let out_units = |out| bytemuck::cast_slice_mut::<f32, [u8; size_of::<f32>()]>(out);
        match self.positions.flags() {
            Some(flags) if first.is_multiple_of(8) => {
                let before = out.len() - values.len();
                out[before..].copy_from_slice(values);
                let flags = &flags[first / 8..][..out.len().div_ceil(8)];
                expand(flags, values.len(), out_units(out), &cancel, |_| ())
            }
            _ => scatter(&*self.positions, (rows, first), units(values), out_units(out), &cancel, |_| ()),
        }
    }

    fn resident_bytes(&self) -> u64 {
        self.bytes()
    }
}

impl LinearOp for Matrix {
    fn shape(&self) -> (usize, usize) {
        (self.grid.rows, self.grid.columns)
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        let columns = self.grid.columns;
        check_product((self.grid.rows, columns), product, &rows, x, y)?;
        if product == Product::Forward {
            y.fill(0.0);
        }
        let (units, mut values) = (self.grid.units_of(&rows), &self.values[self.values_of(&rows)]);
        let first = rows.start;
        // The sums of the row so far: a batch of positions may end within a row.
        let (mut sums, mut summed) = (vec![0.0; x.batch()], None);
        let mut multiply = |mut batch: &[usize]| {
            while let Some(position) = batch.first() {
                let row = position / columns;
                let start = row * columns;
                let (here, later) = batch.split_at(batch.partition_point(|position| *position < start + columns));
                let (now, after) = values.split_at(here.len());
                let weights = here.iter().zip(now).map(|(position, w)| (position - start, f64::from(*w)));
                match product {
                    Product::Forward => {
                        if summed.replace(row) != Some(row) {
                            sums.fill(0.0);
                        }
                        forward(&weights, x, &mut sums);
                        let y = &mut y[(row - first) * x.batch()..][..x.batch()];
                        y.iter_mut().zip(&sums).for_each(|(y, sum)| *y = *sum as f32);
                    }
                    Product::Transposed => transposed(&weights, row, x, y),
                }
                (batch, values) = (later, after);
            }
            Ok(())
        };
        self.positions.visit(rows, &mut Batches::new(units, &mut multiply))
    }

    fn tolerance(&self) -> f32 {
        // Products are exact in f64. An output is rounded to f32 once, or once for each row
        // (transposed).
        let roundings = self.grid.rows + 2;
        roundings as f32 * (f32::EPSILON / 2.0)
    }

    fn resident_bytes(&self) -> u64 {
        self.bytes()
    }
}

/// Adds the products of a row's weights, given as columns and values, to the sum of each vector.
fn forward(weights: &(impl Iterator<Item = (usize, f64)> + Clone), x: &Inputs<'_>, sums: &mut [f64]) {
    for (i, sum) in sums.iter_mut().enumerate() {
        let x = x.vector(i);
        *sum = weights.clone().fold(*sum, |sum, (column, w)| sum + w * f64::from(x[column]));
    }
}

/// Adds the products of a row's weights, given as columns and values, to all outputs.
fn transposed(weights: &(impl Iterator<Item = (usize, f64)> + Clone), row: usize, x: &Inputs<'_>, y: &mut [f32]) {
    for i in 0..x.batch() {
        let input = f64::from(x.vector(i)[row]);
        for (column, w) in weights.clone() {
            let y = &mut y[column * x.batch() + i];
            *y = (f64::from(*y) + w * input) as f32;
        }
    }
}

/// Checks the positions, and returns the checksum of all bytes of the tensor. `stored` are the
/// bytes of the values.
pub(crate) fn checksum(grid: &Grid, positions: &dyn Positions, stored: &[u8]) -> Result<Checksum> {
    let (width, units, mut checksum) = (grid.width, grid.units(), Checksum::default());
    let (mut piece, mut start) = (vec![0; PIECE.min(units) * width], 0);
    let mut values = stored.chunks_exact(width);
    let mut place = |batch: &[usize]| {
        for (position, value) in batch.iter().zip(&mut values) {
            while *position >= start + PIECE {
                checksum.update(&piece);
                piece.fill(0);
                start += PIECE;
            }
            piece[(position - start) * width..][..width].copy_from_slice(value);
        }
        Ok(())
    };
    positions.visit(0..grid.rows, &mut Batches::new(0..units, &mut place))?;
    for start in (start..units).step_by(PIECE) {
        checksum.update(&piece[..PIECE.min(units - start) * width]);
        piece.fill(0);
    }
    Ok(checksum)
}
