//! A training step of a made-up model: BF16 weights, some of which change by one unit in the last
//! place.

use std::path::Path;

use anyhow::Result;
use codec_api::Dtype;
use half::bf16;
use harness::suite::Draw;

use crate::made::{self, Made};

/// Shape of every tensor.
const SHAPE: [usize; 2] = [2048, 4096];
/// Weights of every tensor.
pub(super) const COUNT: usize = SHAPE[0] * SHAPE[1];

/// Which weights change.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// One weight in a hundred, each on its own.
    Random,
    /// Runs of 64 weights, one weight in a hundred together.
    Clustered,
}

impl Change {
    /// Number of neighbours that change together.
    fn run(self) -> usize {
        match self {
            Self::Random => 1,
            Self::Clustered => 64,
        }
    }
}

/// The name of a tensor.
pub(super) fn name(tensor: usize) -> String {
    format!("layers.{tensor}.weight")
}

/// Moves one weight in a hundred by one unit in the last place. Returns how many have moved.
pub(super) fn move_some(weights: &mut [bf16], tensor: usize, change: Change) -> usize {
    let mut draw = Draw::new(1, &name(tensor));
    let mut moved = 0;
    for run in weights.chunks_mut(change.run()) {
        if draw.word().is_multiple_of(100) {
            moved += run.len();
            for weight in run {
                let bits = weight.to_bits();
                // Below zero there is no such unit. The largest number does not occur.
                let up = bits << 1 == 0 || draw.word() & 1 == 0;
                *weight = bf16::from_bits(if up { bits + 1 } else { bits - 1 });
            }
        }
    }
    moved
}

/// Writes a model of so many tensors.
pub(super) fn write(path: &Path, tensors: usize, weights: &dyn Fn(usize) -> Vec<bf16>) -> Result<()> {
    let made =
        |tensor| Made { dtype: Dtype::BF16, shape: SHAPE.to_vec(), bytes: move || made::bytes(&weights(tensor)) };
    made::write(path, (0..tensors).map(|tensor| (name(tensor), made(tensor))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::Weights;

    #[test]
    fn one_weight_in_a_hundred_moves_by_one_unit() {
        let old = Weights::new(0).draw(0, &name(3), COUNT);
        for change in [Change::Random, Change::Clustered] {
            let mut new = old.clone();
            let moved = move_some(&mut new, 3, change);
            let bits = |(old, new): (&bf16, &bf16)| old.to_bits().abs_diff(new.to_bits());
            let differences: Vec<u16> = old.iter().zip(&new).map(bits).filter(|difference| *difference > 0).collect();
            assert_eq!(differences.len(), moved, "{change:?}");
            assert!(differences.iter().all(|difference| *difference == 1));
            let share = moved as f64 / old.len() as f64;
            assert!((share - 0.01).abs() < 0.001, "{change:?}: {share}");
        }
    }
}
