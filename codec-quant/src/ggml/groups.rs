//! Sixteen groups of weights side by side.
#![allow(clippy::needless_range_loop, reason = "lanes read best by index")]

use simd::{LANES, Lanes, lanes};

/// `G` weights of sixteen groups, a lane each: lane `l` has the weights `l·G` to `l·G + G − 1`.
pub(super) struct Groups<const G: usize> {
    /// The weights; zeros beyond the last group.
    pub(super) x: [Lanes<f32>; G],
    /// What their squared errors count.
    pub(super) importance: [Lanes<f32>; G],
    /// Whether some count more than others.
    pub(super) weighted: bool,
}

impl<const G: usize> Groups<G> {
    /// Loads whole groups, sixteen at most; without `importance` all weights count the same.
    #[inline(always)]
    pub(super) fn load(x: &[f32], importance: Option<&[f32]>) -> Self {
        let weighted = importance.is_some();
        Self { x: transpose(x, 0.0), importance: importance.map_or([[1.0; LANES]; G], |w| transpose(w, 1.0)), weighted }
    }

    /// The weights that count at least a hundredth of their group's most important one; zeros in place of the others, which
    /// should not decide where a search begins.
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

/// The codes of the groups from `first` on, one group after the other: the inverse of what [`Groups`] does.
#[inline(always)]
pub(super) fn in_order<const G: usize>(codes: &[Lanes<u8>; G], first: usize, out: &mut [u8]) {
    for (lane, out) in (first..).zip(out.as_chunks_mut::<G>().0) {
        for i in 0..G {
            out[i] = codes[i][lane];
        }
    }
}
