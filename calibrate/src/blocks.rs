//! The block form of a factor: columns that are encoded together do not act on each other.

use std::ops::Range;

use crate::factor::Factor;

/// `H = U·B·Uᵀ` with blocks on the diagonal of `B`, and identities on that of `U`: the feedback
/// between blocks, and the cost of an error in each column of a block.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// The diagonal of `B`.
    pub(crate) costs: Vec<f32>,
    /// `U`, row-major; `None` for the identity.
    pub(crate) unit: Option<Vec<f32>>,
}

/// `range` in steps of at most `step`.
pub(crate) fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let end = range.end;
    range.step_by(step).map(move |first| first..(first + step).min(end))
}

impl Blocks {
    /// With blocks of `size` columns; the last one may have fewer.
    ///
    /// With `M_b` and `D_b` the part of a block, `U = M·diag(M_b)⁻¹` and `B = diag(M_b·D_b·M_bᵀ)`.
    pub(crate) fn new(factor: &Factor, size: usize) -> Self {
        let (order, pivots) = (factor.order(), factor.pivots());
        let Some(all) = factor.unit() else {
            return Self { costs: pivots.iter().map(|pivot| *pivot as f32).collect(), unit: None };
        };
        let (mut unit, mut costs) = (vec![0.0; order * order], Vec::with_capacity(order));
        for block in steps(0..order, size) {
            for i in block.clone() {
                let squares = (i..block.end).map(|j| all[i * order + j] * all[i * order + j] * pivots[j]);
                costs.push(squares.sum::<f64>() as f32);
                unit[i * order + i] = 1.0;
            }
            let mut row = vec![0.0; block.len()];
            for i in 0..block.start {
                // Solves `row · M_b = M[i, block]`, column by column.
                for (place, j) in block.clone().enumerate() {
                    let earlier = row[..place].iter().zip(block.clone()).map(|(x, k)| x * all[k * order + j]);
                    row[place] = all[i * order + j] - earlier.sum::<f64>();
                }
                for (to, from) in unit[i * order..][block.clone()].iter_mut().zip(&row) {
                    *to = *from as f32;
                }
            }
        }
        Self { costs, unit: Some(unit) }
    }
}
