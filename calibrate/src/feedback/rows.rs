//! The feedback from the earlier rows of a column.

use std::ops::Range;

use super::work::{Work, add};
use crate::blocks::{Blocks, steps};

/// The factors of each block of rows, side by side.
#[derive(Debug)]
pub(super) struct RowFeedback {
    /// For each block, a row of factors for each earlier row; empty without feedback.
    blocks: Vec<Vec<f32>>,
    size: usize,
}

impl RowFeedback {
    /// Blocks of `size` rows.
    pub(super) fn new(factor: &Blocks, size: usize) -> Self {
        let order = factor.costs.len();
        let Some(unit) = &factor.unit else { return Self { blocks: Vec::new(), size } };
        let of = |block: Range<usize>| {
            (0..block.start).flat_map(|k| unit[k * order..][block.clone()].iter().copied()).collect()
        };
        Self { blocks: steps(0..order, size).map(of).collect(), size }
    }

    /// Adds the feedback to the targets of some rows and columns, row-major.
    pub(super) fn add(&self, work: &Work, rows: &Range<usize>, columns: &Range<usize>, targets: &mut [f32]) {
        let Some(factors) = self.blocks.get(rows.start / self.size).filter(|factors| !factors.is_empty()) else {
            return;
        };
        let mut sums = vec![0.0; rows.len()];
        for (place, column) in columns.clone().enumerate() {
            sums.fill(0.0);
            for (factors, residual) in factors.chunks_exact(rows.len()).zip(work.residuals(column, rows.start)) {
                add(*residual, factors, &mut sums);
            }
            for (target, sum) in targets.iter_mut().skip(place).step_by(columns.len()).zip(&sums) {
                *target += sum;
            }
        }
    }
}
