//! The matrices of an encode: targets, decoded values and errors, column by column.

use std::ops::Range;

use codec_api::util::transpose;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::blocks::Blocks;

/// Columns whose errors are kept back, until one matrix product adds them to all later columns.
const GROUP: usize = 64;

/// Columns of a product that one thread computes.
const SHARE: usize = 64;

/// All matrices are stored column by column: `columns × rows` values.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) columns: usize,
    pub(super) rows: usize,
    transposed: bool,
    /// The weights; in columns that are encoded, the decoded values.
    weights: Vec<f32>,
    /// The weights and the feedback so far. In columns that are encoded, the targets before the
    /// feedback of rows.
    targets: Vec<f32>,
    /// `W − Ŵ` of the columns that are encoded.
    errors: Vec<f32>,
    /// The columns whose errors are not in the later targets yet.
    pending: Range<usize>,
}

impl Work {
    /// For a row-major matrix, or the transposed one.
    pub(super) fn new(values: &[f32], (rows, columns): (usize, usize), transposed: bool) -> Self {
        let weights = if transposed { values.to_vec() } else { turned(values, rows, columns) };
        let (columns, rows) = if transposed { (rows, columns) } else { (columns, rows) };
        let errors = vec![0.0; weights.len()];
        Self { columns, rows, transposed, targets: weights.clone(), weights, errors, pending: 0..0 }
    }

    /// Adds the errors of all earlier columns to the targets of `block`; if `ahead`, also to those
    /// of all later columns.
    pub(super) fn prepare(&mut self, factor: &Blocks, block: &Range<usize>, ahead: bool) {
        let Some(unit) = &factor.unit else { return };
        self.pending.end = block.start;
        if ahead || self.pending.len() >= GROUP {
            self.flush(unit);
        }
        let (rows, order) = (self.rows, self.columns);
        for j in block.clone() {
            let target = &mut self.targets[j * rows..(j + 1) * rows];
            for k in self.pending.clone() {
                add(unit[k * order + j], &self.errors[k * rows..(k + 1) * rows], target);
            }
        }
    }

    /// Adds the errors of the pending columns to the targets of all columns behind them.
    fn flush(&mut self, unit: &[f32]) {
        let (rows, order, from) = (self.rows, self.columns, self.pending.clone());
        let errors = MatRef::from_row_major_slice(&self.errors[from.start * rows..from.end * rows], from.len(), rows);
        let unit = MatRef::from_row_major_slice(unit, order, order);
        let later = &mut self.targets[from.end * rows..];
        later.par_chunks_mut(SHARE * rows.max(1)).enumerate().for_each(|(share, targets)| {
            let (first, count) = (from.end + share * SHARE, targets.len() / rows);
            let unit = unit.submatrix(from.start, first, from.len(), count);
            let targets = MatMut::from_row_major_slice_mut(targets, count, rows);
            matmul(targets, Accum::Add, unit.transpose(), errors, 1.0, Par::Seq);
        });
        self.pending = from.end..from.end;
    }

    /// The targets of some rows and columns, row-major.
    pub(super) fn gather(&self, rows: Range<usize>, columns: &Range<usize>) -> Vec<f32> {
        rows.flat_map(|i| columns.clone().map(move |j| self.targets[j * self.rows + i])).collect()
    }

    /// Takes what some weights are decoded to, row-major.
    pub(super) fn store(&mut self, rows: Range<usize>, columns: &Range<usize>, decoded: &[f32]) {
        for (i, decoded) in rows.zip(decoded.chunks_exact(columns.len())) {
            for (j, decoded) in columns.clone().zip(decoded) {
                let at = j * self.rows + i;
                self.errors[at] = self.weights[at] - decoded;
                self.targets[at] -= decoded;
                self.weights[at] = *decoded;
            }
        }
    }

    /// Of weights that are encoded, the targets before the feedback of rows, less the decoded
    /// values.
    pub(super) fn residuals(&self, column: usize, rows: usize) -> &[f32] {
        &self.targets[column * self.rows..][..rows]
    }

    /// All decoded values, row-major.
    pub(super) fn decoded(self) -> Vec<f32> {
        if self.transposed { self.weights } else { turned(&self.weights, self.columns, self.rows) }
    }
}

/// The transposed matrix.
pub(crate) fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    transpose((rows, columns), values, &mut out);
    out
}

/// `to += factor · values`.
pub(super) fn add(factor: f32, values: &[f32], to: &mut [f32]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to += factor * value;
    }
}
