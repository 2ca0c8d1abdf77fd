//! The block form of a factor: columns that are encoded together do not act on each other.

use std::ops::Range;

use crate::factor::Factor;
use crate::padded::Padded;

/// `H = U·B·Uᵀ` with blocks on the diagonal of `B`, and identities on that of `U`: the feedback
/// between blocks, and the cost of an error in each column of a block.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// The diagonal of `B`.
    pub(crate) costs: Vec<f32>,
    /// `U`, or after [`Self::turned`] the transposed `U`; `None` for the identity.
    pub(crate) unit: Option<Padded>,
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
        let (mut unit, mut costs) = (Padded::filled(order, order, 0.0), Vec::with_capacity(order));
        let mut row = vec![0.0; size.min(order)];
        for i in 0..order {
            let own = i / size * size;
            let squares = (i..order.min(own + size)).map(|j| all[i * order + j] * all[i * order + j] * pivots[j]);
            costs.push(squares.sum::<f64>() as f32);
            let unit = unit.row_mut(i);
            unit[i] = 1.0;
            if size == 1 {
                // A block of one column has nothing to solve.
                let later = &all[i * order..][i + 1..order];
                unit[i + 1..].iter_mut().zip(later).for_each(|(to, from)| *to = *from as f32);
                continue;
            }
            for block in steps(own + size..order, size) {
                // Solves `x · M_b = M[i, block]` from the first column to the last.
                let row = &mut row[..block.len()];
                row.copy_from_slice(&all[i * order..][block.clone()]);
                for (place, k) in block.clone().enumerate() {
                    let x = row[place];
                    let later = &all[k * order..][k + 1..block.end];
                    row[place + 1..].iter_mut().zip(later).for_each(|(to, m)| *to -= x * m);
                }
                for (to, from) in unit[block].iter_mut().zip(row.iter()) {
                    *to = *from as f32;
                }
            }
        }
        Self { costs, unit: Some(unit) }
    }

    /// The same with `U` transposed.
    pub(crate) fn turned(self) -> Self {
        Self { unit: self.unit.map(Padded::turned), ..self }
    }
}
