//! Least squares for sixteen groups at once: the scale, or scale and minimum, that make the levels fit the weights best.
//!
//! For given codes the best scale follows from sums over the group; for a given scale the best codes are the nearest. A few
//! starting points, then the two in turn.
#![allow(clippy::needless_range_loop, reason = "lanes read best by index")]

use simd::{LANES, Lanes, Simd, lanes};

use super::groups::Groups;
use super::levels::Levels;

/// Where the first codes come from: the weight of largest magnitude goes so many steps beyond an end of the levels.
const OVERSHOOTS: [f32; 5] = [-0.7, -0.35, 0.0, 0.35, 0.7];
/// Rounds of refitting after that.
const ROUNDS: usize = 2;

/// `1/x`, or 0 for 0.
#[inline(always)]
pub(super) fn inverse(x: &Lanes<f32>) -> Lanes<f32> {
    lanes!(i => if x[i] == 0.0 { 0.0 } else { 1.0 / x[i] })
}

/// The scales `s` for which `Σ importance·(x − s·level)²` is smallest, as far as found.
#[inline(always)]
pub(super) fn scale<S: Simd, L: Levels, const G: usize>(simd: S, groups: &Groups<G>) -> Lanes<f32> {
    let mut peak = [0.0f32; LANES];
    for x in &groups.x {
        peak = lanes!(i => if x[i].abs() > peak[i].abs() { x[i] } else { peak[i] });
    }
    let per_level = inverse(&peak);
    let mut best = Best { score: [0.0; LANES], scale: lanes!(i => peak[i] / L::LOWEST) };
    for end in [L::LOWEST, L::HIGHEST] {
        for overshoot in OVERSHOOTS {
            let at = end + end.signum() * L::STEP * overshoot;
            best.improve::<S, L, G>(simd, groups, &lanes!(i => per_level[i] * at));
        }
    }
    for _ in 0..ROUNDS {
        let again = inverse(&best.scale);
        best.improve::<S, L, G>(simd, groups, &again);
    }
    best.scale
}

/// The best scale so far, and by how much it lowers the squared error.
struct Best {
    score: Lanes<f32>,
    scale: Lanes<f32>,
}

impl Best {
    /// Fits a scale to the codes that another scale, of this inverse, leads to.
    #[inline(always)]
    fn improve<S: Simd, L: Levels, const G: usize>(&mut self, simd: S, groups: &Groups<G>, inverse: &Lanes<f32>) {
        let (mut xl, mut ll) = ([0.0f32; LANES], [0.0f32; LANES]);
        for g in 0..G {
            let (x, w) = (&groups.x[g], &groups.importance[g]);
            let level = L::nearest(simd, &lanes!(i => x[i] * inverse[i]));
            let wl: Lanes<f32> = lanes!(i => w[i] * level[i]);
            xl = lanes!(i => xl[i] + wl[i] * x[i]);
            ll = lanes!(i => ll[i] + wl[i] * level[i]);
        }
        let fitted: Lanes<f32> = lanes!(i => if ll[i] > 0.0 { xl[i] / ll[i] } else { 0.0 });
        let score: Lanes<f32> = lanes!(i => fitted[i] * xl[i]);
        self.scale = lanes!(i => if score[i] > self.score[i] { fitted[i] } else { self.scale[i] });
        self.score = lanes!(i => if score[i] > self.score[i] { score[i] } else { self.score[i] });
    }
}

/// Scale and minimum of a group: weights are `scale·code − minimum`, neither of them negative.
pub(super) struct Affine {
    pub(super) scale: Lanes<f32>,
    pub(super) minimum: Lanes<f32>,
}

/// The scales and minima for which `Σ importance·(x − (scale·code − minimum))²` is smallest, as far as found; codes are 0
/// to [`Levels::HIGHEST`]. With `ANY_SIGN`, minima may be negative too.
#[inline(always)]
pub(super) fn affine<S: Simd, L: Levels, const ANY_SIGN: bool, const G: usize>(simd: S, groups: &Groups<G>) -> Affine {
    let (mut low, mut high) = (groups.x[0], groups.x[0]);
    for x in &groups.x[1..] {
        low = lanes!(i => if x[i] < low[i] { x[i] } else { low[i] });
        high = lanes!(i => if x[i] > high[i] { x[i] } else { high[i] });
    }
    if !ANY_SIGN {
        low = lanes!(i => if low[i] < 0.0 { low[i] } else { 0.0 });
    }
    let range: Lanes<f32> = lanes!(i => if high[i] > low[i] { high[i] - low[i] } else { 0.0 });
    let per_range = inverse(&range);
    let mut best = BestAffine {
        error: [f32::INFINITY; LANES],
        scale: lanes!(i => range[i] / L::HIGHEST),
        minimum: lanes!(i => -low[i]),
    };
    for overshoot in OVERSHOOTS {
        let minimum: Lanes<f32> = lanes!(i => -low[i]);
        let inverse: Lanes<f32> = lanes!(i => per_range[i] * (L::HIGHEST + overshoot));
        best.improve::<S, L, ANY_SIGN, G>(simd, groups, &inverse, &minimum);
    }
    for _ in 0..ROUNDS {
        let (again, minimum) = (inverse(&best.scale), best.minimum);
        best.improve::<S, L, ANY_SIGN, G>(simd, groups, &again, &minimum);
    }
    Affine { scale: best.scale, minimum: best.minimum }
}

/// The best scale and minimum so far and their error, up to a constant.
struct BestAffine {
    error: Lanes<f32>,
    scale: Lanes<f32>,
    minimum: Lanes<f32>,
}

impl BestAffine {
    /// Fits scale and minimum to the codes that others lead to.
    #[inline(always)]
    fn improve<S: Simd, L: Levels, const ANY_SIGN: bool, const G: usize>(
        &mut self,
        simd: S,
        groups: &Groups<G>,
        inverse: &Lanes<f32>,
        minimum: &Lanes<f32>,
    ) {
        let (mut sum_w, mut sum_x, mut sum_l) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
        let (mut xl, mut ll) = ([0.0f32; LANES], [0.0f32; LANES]);
        for g in 0..G {
            let (x, w) = (&groups.x[g], &groups.importance[g]);
            let level = L::nearest(simd, &lanes!(i => (x[i] + minimum[i]) * inverse[i]));
            let wl: Lanes<f32> = lanes!(i => w[i] * level[i]);
            sum_w = lanes!(i => sum_w[i] + w[i]);
            sum_x = lanes!(i => sum_x[i] + w[i] * x[i]);
            sum_l = lanes!(i => sum_l[i] + wl[i]);
            xl = lanes!(i => xl[i] + wl[i] * x[i]);
            ll = lanes!(i => ll[i] + wl[i] * level[i]);
        }
        for i in 0..LANES {
            let determinant = sum_w[i] * ll[i] - sum_l[i] * sum_l[i];
            let both = determinant > 0.0;
            let mut scale = if both { (sum_w[i] * xl[i] - sum_x[i] * sum_l[i]) / determinant } else { 0.0 };
            let mut minimum = if both { (sum_l[i] * xl[i] - ll[i] * sum_x[i]) / determinant } else { 0.0 };
            if !both && ll[i] == 0.0 {
                (scale, minimum) = (0.0, -sum_x[i] / sum_w[i]);
            }
            if (!both && ll[i] > 0.0) || (!ANY_SIGN && minimum < 0.0) {
                (scale, minimum) = (if ll[i] > 0.0 { xl[i] / ll[i] } else { 0.0 }, 0.0);
            }
            let error = minimum * sum_x[i] - scale * xl[i];
            if scale >= 0.0 && error < self.error[i] {
                (self.error[i], self.scale[i], self.minimum[i]) = (error, scale, minimum);
            }
        }
    }
}
