//! Sixteen groups of weights side by side.
#![allow(clippy::needless_range_loop, reason = "lanes read best by index")]

use simd::{LANES, Lanes, lanes};

/// Sixteen groups of `G` weights, one per lane: lane `l` has the weights `l·G` to `l·G + G − 1`.
pub(super) struct Groups<const G: usize> {
    /// The weights; zeros beyond the last group.
    pub(super) x: [Lanes<f32>; G],
    /// Importances of the squared errors.
    pub(super) importance: [Lanes<f32>; G],
    /// Whether importances were given.
    pub(super) weighted: bool,
}

impl<const G: usize> Groups<G> {
    /// Loads at most sixteen whole groups; without `importance` all weights have importance 1.
    #[inline(always)]
    pub(super) fn load(x: &[f32], importance: Option<&[f32]>) -> Self {
        let weighted = importance.is_some();
        Self { x: transpose(x, 0.0), importance: importance.map_or([[1.0; LANES]; G], |w| transpose(w, 1.0)), weighted }
    }

    /// The weights with at least 1/100 of the largest importance in their group, and zeros in place
    /// of the others: unimportant weights must not decide where a search begins.
    #[inline(always)]
    pub(super) fn important(&self) -> [Lanes<f32>; G] {
        let mut most = [0.0f32; LANES];
        for w in &self.importance {
            most = lanes!(i => if w[i] > most[i] { w[i] } else { most[i] });
        }
        let mut x = self.x;
        for (x, w) in x.iter_mut().zip(&self.importance) {
            *x = lanes!(i => if w[i] >= 0.01 * most[i] { x[i] } else { 0.0 });
        }
        x
    }

    /// Whether some group has only zeros and weights of the magnitude of its `peak`, which is not 0.
    #[inline(always)]
    pub(super) fn any_of_one_magnitude(&self, peak: &Lanes<f32>) -> bool {
        let mut all: Lanes<bool> = lanes!(i => peak[i] != 0.0);
        for x in &self.x {
            all = lanes!(i => all[i] & (x[i] == 0.0 || x[i].abs() == peak[i].abs()));
            if !all.contains(&true) {
                return false;
            }
        }
        true
    }
}

#[inline(always)]
fn transpose<const G: usize>(values: &[f32], fill: f32) -> [Lanes<f32>; G] {
    let mut lanes = [[fill; LANES]; G];
    for (lane, group) in values.as_chunks::<G>().0.iter().enumerate() {
        for i in 0..G {
            lanes[i][lane] = group[i];
        }
    }
    lanes
}
