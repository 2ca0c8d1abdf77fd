//! The search for the grid of a group with the least squared error, weighted with calibration.

use codec_api::{EncodeCx, Result};
use half::f16;
use simd::{LANES, kernel, load, sum};

use super::IntQuant;
use super::layout::Layout;
use super::quantise::ROUND;
use super::range::{Codes, Extent, covering};
use super::scale::{Grids, power_of_two};

/// Candidate ranges: the full one, and shorter ones by [`STEP`] each.
pub(super) const CANDIDATES: usize = 24;
const STEP: f32 = 0.02;
/// Rounds of a search: the candidate ranges, then twice the scale that fits the codes and the
/// neighbours of the zero point.
pub(super) const ROUNDS: usize = 5;

/// How the grids of the groups of some rows are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chooser<'a> {
    pub(super) codes: Codes,
    clip: bool,
    pub(super) layout: &'a Layout,
    /// How much the error in each column counts.
    importance: Option<&'a [f32]>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(codec: &IntQuant, layout: &'a Layout, importance: Option<&'a [f32]>) -> Self {
        Self { codes: codec.codes(importance.is_some()), clip: codec.clip, layout, importance }
    }

    /// The grids that cover the ranges, or the best ones found.
    pub(super) fn grids(&self, values: &[f32], ranges: &[Extent], exponent: i8, cx: &EncodeCx<'_>) -> Result<Grids> {
        let (codes, normalise) = (self.codes, power_of_two(-i32::from(exponent)));
        let mut grids = covering(codes, ranges, normalise);
        if !self.clip && self.importance.is_none() {
            return Ok(grids);
        }
        let (row, width) = self.layout.group_spans(values);
        let groups = values.chunks(row).flat_map(|row| row.chunks(width).enumerate()).zip(ranges);
        for (((i, values), range), (step, zero)) in groups.zip(grids.steps.iter_mut().zip(&mut grids.zeros)) {
            cx.cancel.check()?;
            let plain = Group { values, weights: None, codes, normalise };
            if self.clip {
                let search = Search::new(codes, *range, normalise, false);
                (*step, *zero) = best_grid(&search, &plain, search.widest);
            }
            if let Some(importance) = self.importance {
                let group = Group { weights: Some(&importance[i * width..][..values.len()]), ..plain };
                (*step, *zero) = best_grid(&Search::new(codes, *range, normalise, true), &group, (*step, *zero));
            }
        }
        Ok(grids)
    }
}

/// The candidates for the grid of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    codes: Codes,
    /// The grid that covers the group.
    pub(super) widest: (f32, f32),
    /// Steps are rounded as they will be stored, so that the result is never worse than the first
    /// candidate.
    weighted: bool,
}

impl Search {
    pub(super) fn new(codes: Codes, range: Extent, normalise: f32, weighted: bool) -> Self {
        let (step, zero) = codes.covering(range, normalise);
        // A symmetric grid has one more level below zero. The sign of the step puts it on the side
        // of the extreme value.
        let flip = codes.middle.is_some() && range.high > -range.low;
        Self { codes, widest: (if flip { -step } else { step }, zero), weighted }
    }

    #[inline(always)]
    fn stored(&self, step: f32) -> f32 {
        if self.weighted { f16::from_f32_const(step).to_f32_const() } else { step }
    }

    /// The grids that a round tries after the `best` one of the rounds before, or after the first
    /// candidate.
    #[inline(always)]
    pub(super) fn tries(&self, round: usize, best: Candidate) -> impl Iterator<Item = (f32, f32)> {
        let (search, usable) = (*self, |step: f32| step != 0.0 && step.is_finite());
        let numbers = match round {
            _ if !usable(self.stored(best.step)) => 0..0,
            0 => usize::from((best.step, best.zero) == self.widest)..CANDIDATES + 1,
            1 | 3 => 0..usize::from(best.square > 0.0),
            _ => 0..if self.codes.middle.is_none() { 2 } else { 0 },
        };
        let grid = move |i| match (round, i) {
            (0, 0) => (best.step, best.zero),
            (0, _) => (search.widest.0 * (1.0 - STEP * (i - 1) as f32), search.widest.1),
            (1 | 3, _) => ((best.cross / best.square) as f32, best.zero),
            (_, 0) => (best.step, (best.zero - 1.0).max(0.0)),
            _ => (best.step, (best.zero + 1.0).min(search.codes.max)),
        };
        let stored = move |(step, zero)| (search.stored(step), zero);
        numbers.map(grid).map(stored).filter(move |(step, _)| usable(*step))
    }
}

/// A grid, and its weighted sums over a group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Candidate {
    pub(super) step: f32,
    pub(super) zero: f32,
    /// Σ (x − ŵ)²
    pub(super) error: f64,
    /// Σ x·(code − zero)
    pub(super) cross: f64,
    /// Σ (code − zero)²
    pub(super) square: f64,
}

impl Candidate {
    /// A grid that has not been tried.
    #[inline(always)]
    pub(super) fn first((step, zero): (f32, f32)) -> Self {
        Self { step, zero, error: f64::INFINITY, cross: 0.0, square: 0.0 }
    }

    /// The better one; ties go to the one tried first.
    #[inline(always)]
    pub(super) fn or(self, other: Self) -> Self {
        if other.error < self.error { other } else { self }
    }
}

kernel! {
    /// Step and zero point with the least squared error.
    fn best_grid<'a>(_simd, search: &'a Search, group: &'a Group<'a>, first: (f32, f32)) -> (f32, f32) {
        let mut best = Candidate::first(first);
        for round in 0..ROUNDS {
            for grid in search.tries(round, best) {
                best = best.or(group.evaluate(grid));
            }
        }
        (best.step, best.zero)
    }
}

/// Weights that share a grid, within one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    pub(super) values: &'a [f32],
    /// How much each squared error counts.
    pub(super) weights: Option<&'a [f32]>,
    pub(super) codes: Codes,
    pub(super) normalise: f32,
}

impl Group<'_> {
    #[inline(always)]
    pub(super) fn evaluate(&self, grid: (f32, f32)) -> Candidate {
        match self.weights {
            None => self.sums::<false>(&[], grid),
            Some(weights) => self.sums::<true>(weights, grid),
        }
    }

    #[inline(always)]
    fn sums<const WEIGHTED: bool>(&self, weights: &[f32], (step, zero): (f32, f32)) -> Candidate {
        /// f32 sums of this many values are exact enough for comparing candidates.
        const PART: usize = 4096;
        let mut total = Candidate { step, zero, error: 0.0, cross: 0.0, square: 0.0 };
        let inverse = 1.0 / step;
        for (p, part) in self.values.chunks(PART).enumerate() {
            let (mut error, mut cross, mut square) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
            for (b, x) in part.chunks(LANES).enumerate() {
                let x = load(x);
                let w = if WEIGHTED { load(&weights[p * PART + b * LANES..]) } else { [1.0; LANES] };
                for i in 0..LANES {
                    let x = x[i] * self.normalise;
                    let c = (x * inverse + ROUND) - ROUND + zero;
                    let c = if c < self.codes.min { self.codes.min } else { c };
                    let c = if c > self.codes.max { self.codes.max } else { c };
                    let d = c - zero;
                    let e = x - d * step;
                    error[i] += e * e * w[i];
                    cross[i] += x * d * w[i];
                    square[i] += d * d * w[i];
                }
            }
            total.error += f64::from(sum(error));
            total.cross += f64::from(sum(cross));
            total.square += f64::from(sum(square));
        }
        total
    }
}
