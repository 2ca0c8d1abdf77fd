//! The cost of quantising a weight to the best member of each subset of multiples.

use simd::{LANES, Simd, lanes};

use super::stats::Stats;

/// A number for each of sixteen lanes.
pub(crate) type Lanes = [f32; LANES];

/// Rounds to nearest, ties to even, for magnitudes below 2²². The result is the same at every
/// level, and no function call is needed where the level has no rounding instruction.
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// A measure of costs.
pub(super) trait Metric: Copy {
    /// Cost of the best member of each subset; a subset is the multiples with the same `j mod 4`.
    fn costs<S: Simd>(self, simd: S, x: &Lanes) -> [Lanes; 4];

    /// The best members of these subsets, for the costs of [`Self::costs`].
    fn members<S: Simd>(self, simd: S, x: &Lanes, subsets: &[u8; LANES]) -> [i32; LANES];
}

/// Squared distance to the nearest member of a subset, in units of four steps.
#[derive(Clone, Copy)]
pub(super) struct Distance;

impl Metric for Distance {
    #[inline(always)]
    fn costs<S: Simd>(self, _: S, x: &Lanes) -> [Lanes; 4] {
        let quarters: Lanes = lanes!(i => x[i] * 0.25);
        let mut costs = [[0.0; LANES]; 4];
        for (subset, costs) in costs.iter_mut().enumerate() {
            *costs = lanes!(i => {
                let y = quarters[i] - subset as f32 * 0.25;
                let distance = y - round(y);
                distance * distance
            });
        }
        costs
    }

    #[inline(always)]
    fn members<S: Simd>(self, _: S, x: &Lanes, subsets: &[u8; LANES]) -> [i32; LANES] {
        lanes!(i => {
            let subset = f32::from(subsets[i]);
            (round(x[i] * 0.25 - subset * 0.25) * 4.0 + subset) as i32
        })
    }
}

/// Squared distance in steps plus cost of bits. Tables are indexed by the magnitude of the
/// multiple; the last entry is for all larger ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateDistortion {
    /// Decoded value of a multiple.
    points: Lanes,
    /// Bits of a multiple times the Lagrange factor.
    rates: Lanes,
}

impl RateDistortion {
    /// Costs for multiples that occur as often as in `stats` and are decoded to the mean of their
    /// weights; `lambda` is in squared steps per bit.
    pub(super) fn of(stats: &Stats, lambda: f64) -> Self {
        let parities = stats.parities().map(|n| n.max(1.0));
        // A multiple that did not occur gets the cost of half an occurrence.
        let rate = |i: usize| {
            let count = if i == 0 { stats.zeros() } else { stats.magnitude(i).count / 2.0 };
            -libm::log2(count.max(0.5) / parities[i % 2])
        };
        let point = |i: usize| {
            let of = stats.magnitude(i.max(1));
            if i > 0 && of.count >= 64.0 { of.sum / of.count } else { i as f64 }
        };
        Self { points: lanes!(i => point(i) as f32), rates: lanes!(i => (lambda * rate(i)) as f32) }
    }

    /// All numbers, for [`Self::of_numbers`].
    pub(super) fn numbers(&self) -> impl Iterator<Item = f32> {
        self.points.into_iter().chain(self.rates)
    }

    /// From the result of [`Self::numbers`].
    pub(super) fn of_numbers(numbers: &[f32]) -> Option<Self> {
        let (&[points, rates], []) = numbers.as_chunks() else { return None };
        Some(Self { points, rates })
    }

    /// Cost and number of the cheaper of two members: the nearest one, and the next one towards or
    /// across zero.
    #[inline(always)]
    fn best<S: Simd>(self, simd: S, x: &Lanes, subset: &Lanes) -> (Lanes, Lanes) {
        let nearest: Lanes = lanes!(i => round((x[i] - subset[i]) * 0.25) * 4.0 + subset[i]);
        let inner: Lanes = lanes!(i => nearest[i] - 4f32.copysign(nearest[i]));
        let (first, second) = (self.cost(simd, x, &nearest), self.cost(simd, x, &inner));
        (
            lanes!(i => if second[i] < first[i] { second[i] } else { first[i] }),
            lanes!(i => if second[i] < first[i] { inner[i] } else { nearest[i] }),
        )
    }

    #[inline(always)]
    fn cost<S: Simd>(self, simd: S, x: &Lanes, member: &Lanes) -> Lanes {
        let class: [u8; LANES] = lanes!(i => (member[i].abs() as i32).min(LANES as i32 - 1) as u8);
        let (points, rates) = (simd.lookup16(&self.points, &class), simd.lookup16(&self.rates, &class));
        lanes!(i => {
            // Beyond the table, the distance of a point from its multiple is that of the last
            // entry.
            let magnitude = points[i] + (member[i].abs() - f32::from(class[i]));
            let distance = x[i] - magnitude.copysign(member[i]);
            distance * distance + rates[i]
        })
    }
}

impl Metric for RateDistortion {
    #[inline(always)]
    fn costs<S: Simd>(self, simd: S, x: &Lanes) -> [Lanes; 4] {
        let mut costs = [[0.0; LANES]; 4];
        for (subset, costs) in costs.iter_mut().enumerate() {
            *costs = self.best(simd, x, &[subset as f32; LANES]).0;
        }
        costs
    }

    #[inline(always)]
    fn members<S: Simd>(self, simd: S, x: &Lanes, subsets: &[u8; LANES]) -> [i32; LANES] {
        let members = self.best(simd, x, &lanes!(i => f32::from(subsets[i]))).1;
        lanes!(i => members[i] as i32)
    }
}
