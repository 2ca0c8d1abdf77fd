//! Least squares for sixteen groups at once: the scale, or scale and minimum, that fit the levels
//! to the weights best.
//!
//! For given codes the best scale follows from sums over the group; for a given scale the nearest
//! codes are the best. The search alternates between the two from a few starting points.
#![allow(clippy::needless_range_loop, reason = "lanes read best by index")]

use simd::{LANES, Lanes, Simd, lanes};

use super::groups::Groups;
use super::levels::Levels;

/// Starting points: the weight of largest magnitude is mapped this many level steps beyond an end
/// of the levels.
const OVERSHOOTS: [f32; 5] = [-0.7, -0.35, 0.0, 0.35, 0.7];
/// Rounds of refitting after the starting points.
const ROUNDS: usize = 2;

/// The minimum that is subtracted from the scaled levels.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Minimum {
    /// Nothing.
    None,
    /// A number that is not negative.
    Positive,
    /// Any number.
    Any,
}

/// Scale and minimum of each group: weights are `scale·level − minimum`.
pub(super) struct Fit {
    pub(super) scale: Lanes<f32>,
    pub(super) minimum: Lanes<f32>,
    /// Reduction of the squared error compared with zeros.
    gain: Lanes<f32>,
}

impl Fit {
    /// Searches the scale and minimum with the smallest
    /// `Σ importance·(x − (scale·level − minimum))²`.
    #[inline(always)]
    pub(super) fn new<S: Simd, L: Levels, const G: usize>(simd: S, groups: &Groups<G>, minimum: Minimum) -> Self {
        let zeros = [0.0; LANES];
        let mut best = Self { scale: zeros, minimum: zeros, gain: zeros };
        best.search::<S, L, G>(simd, groups, &groups.x, minimum);
        if groups.weighted {
            best.search::<S, L, G>(simd, groups, &groups.important(), minimum);
        }
        for _ in 0..ROUNDS {
            let (by_scale, shift) = (inverse(&best.scale), best.minimum);
            best.improve::<S, L, G>(simd, groups, &by_scale, &shift, minimum);
        }
        best
    }

    /// Tries starting points that follow from the range of `x`.
    #[inline(always)]
    fn search<S: Simd, L: Levels, const G: usize>(
        &mut self,
        simd: S,
        groups: &Groups<G>,
        x: &[Lanes<f32>; G],
        minimum: Minimum,
    ) {
        if minimum == Minimum::None {
            let per_peak = inverse(&peak(x));
            for end in [L::LOWEST, L::HIGHEST] {
                for overshoot in OVERSHOOTS {
                    let at = end + end.signum() * L::STEP * overshoot;
                    let by_scale = lanes!(i => per_peak[i] * at);
                    self.improve::<S, L, G>(simd, groups, &by_scale, &[0.0; LANES], minimum);
                }
            }
            return;
        }
        let [low, high] = range(x);
        let shift: Lanes<f32> = lanes!(i => if minimum == Minimum::Any || low[i] < 0.0 { -low[i] } else { 0.0 });
        let per_range = inverse(&lanes!(i => high[i] + shift[i]));
        for overshoot in OVERSHOOTS {
            let by_scale = lanes!(i => per_range[i] * (L::HIGHEST + L::STEP * overshoot));
            self.improve::<S, L, G>(simd, groups, &by_scale, &shift, minimum);
        }
    }

    /// Fits scale and minimum to the codes that `by_scale` and `shift` give, and keeps them if they
    /// are better.
    #[inline(always)]
    fn improve<S: Simd, L: Levels, const G: usize>(
        &mut self,
        simd: S,
        groups: &Groups<G>,
        by_scale: &Lanes<f32>,
        shift: &Lanes<f32>,
        minimum: Minimum,
    ) {
        let mut sums = Sums::default();
        for g in 0..G {
            let (x, w) = (&groups.x[g], &groups.importance[g]);
            let level = L::nearest(simd, &lanes!(i => (x[i] + shift[i]) * by_scale[i]));
            sums.add(x, w, &level, minimum != Minimum::None);
        }
        for i in 0..LANES {
            let [scale, subtracted] = sums.solve(i, minimum);
            // The gain at the least-squares solution for these codes.
            let gain = scale * sums.xl[i] - subtracted * sums.x[i];
            if gain > self.gain[i] {
                (self.scale[i], self.minimum[i], self.gain[i]) = (scale, subtracted, gain);
            }
        }
    }
}

/// Sums over each group, weighted by importance; `x` are weights, `l` levels.
#[derive(Default)]
struct Sums {
    w: Lanes<f32>,
    x: Lanes<f32>,
    l: Lanes<f32>,
    xl: Lanes<f32>,
    ll: Lanes<f32>,
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, x: &Lanes<f32>, w: &Lanes<f32>, level: &Lanes<f32>, minimum: bool) {
        let wl: Lanes<f32> = lanes!(i => w[i] * level[i]);
        self.xl = lanes!(i => self.xl[i] + wl[i] * x[i]);
        self.ll = lanes!(i => self.ll[i] + wl[i] * level[i]);
        if minimum {
            self.w = lanes!(i => self.w[i] + w[i]);
            self.x = lanes!(i => self.x[i] + w[i] * x[i]);
            self.l = lanes!(i => self.l[i] + wl[i]);
        }
    }

    /// Scale and minimum of a group. The scale is not negative if there is a minimum.
    #[inline(always)]
    fn solve(&self, i: usize, minimum: Minimum) -> [f32; 2] {
        let without = if self.ll[i] > 0.0 { self.xl[i] / self.ll[i] } else { 0.0 };
        if minimum == Minimum::None {
            return [without, 0.0];
        }
        let both = solve(self.ll[i], -self.l[i], self.w[i], self.xl[i], -self.x[i]);
        let [scale, subtracted] = match both {
            Some(both) => both,
            // All weights have the same level.
            None if self.ll[i] > 0.0 => [without, 0.0],
            None => [0.0, -self.x[i] / self.w[i]],
        };
        if scale < 0.0 {
            [0.0, 0.0]
        } else if minimum == Minimum::Positive && subtracted < 0.0 {
            [if without > 0.0 { without } else { 0.0 }, 0.0]
        } else {
            [scale, subtracted]
        }
    }
}

/// The `p` and `q` of the least squares `x ≈ p·a + q·b`, from the sums of products; `None` if `a`
/// and `b` are nearly parallel.
#[inline(always)]
pub(super) fn solve(aa: f32, ab: f32, bb: f32, xa: f32, xb: f32) -> Option<[f32; 2]> {
    // Larger than the rounding error of a zero determinant.
    const LEAST: f32 = 1e-5;
    let determinant = aa * bb - ab * ab;
    (determinant > LEAST * (aa * bb)).then(|| [(xa * bb - xb * ab) / determinant, (xb * aa - xa * ab) / determinant])
}

/// `1/x`, or 0 for 0.
#[inline(always)]
pub(super) fn inverse(x: &Lanes<f32>) -> Lanes<f32> {
    lanes!(i => if x[i] == 0.0 { 0.0 } else { 1.0 / x[i] })
}

/// The weight of largest magnitude of each group.
#[inline(always)]
pub(super) fn peak<const G: usize>(x: &[Lanes<f32>; G]) -> Lanes<f32> {
    let mut peak = x[0];
    for x in x {
        peak = lanes!(i => if x[i].abs() > peak[i].abs() { x[i] } else { peak[i] });
    }
    peak
}

/// The smallest and the largest weight of each group.
#[inline(always)]
pub(super) fn range<const G: usize>(x: &[Lanes<f32>; G]) -> [Lanes<f32>; 2] {
    let (mut low, mut high) = (x[0], x[0]);
    for x in x {
        low = lanes!(i => if x[i] < low[i] { x[i] } else { low[i] });
        high = lanes!(i => if x[i] > high[i] { x[i] } else { high[i] });
    }
    [low, high]
}
