//! The search for the grid of a group with the least squared error.

use codec_api::{EncodeCx, Result};
use simd::{LANES, kernel, load, sum};

use super::layout::Layout;
use super::quantise::ROUND;
use super::range::{Codes, Range};
use super::scale::Grids;

/// Candidate ranges: the full one, and shorter ones by [`STEP`] each.
pub(super) const CANDIDATES: usize = 24;
const STEP: f32 = 0.02;
/// Rounds of fitting the scale to the codes and moving the zero point.
const REFINEMENTS: usize = 2;

/// Replaces the grids that cover the full ranges by the best ones found.
pub(super) fn search(
    codes: Codes,
    layout: &Layout,
    values: &[f32],
    ranges: &[Range],
    normalise: f32,
    grids: &mut Grids,
    cx: &EncodeCx<'_>,
) -> Result<()> {
    let (row, width) = layout.group_spans(values);
    let groups = values.chunks(row).flat_map(|row| row.chunks(width)).zip(ranges);
    for ((group, range), (step, zero)) in groups.zip(grids.steps.iter_mut().zip(&mut grids.zeros)) {
        cx.cancel.check()?;
        // A symmetric grid has one more level below zero. The sign of the step puts it on the side
        // of the extreme value.
        let widest = if codes.middle.is_some() && range.high > -range.low { -*step } else { *step };
        (*step, *zero) = best_grid(&Group { codes, values: group, normalise }, widest, *zero);
    }
    Ok(())
}

/// One group and its permitted codes.
#[derive(Debug)]
struct Group<'a> {
    codes: Codes,
    values: &'a [f32],
    normalise: f32,
}

/// A candidate and its sums over the group.
#[derive(Clone, Copy)]
struct Candidate {
    step: f32,
    zero: f32,
    /// Σ (x − ŵ)²
    error: f64,
    /// Σ x·(code − zero)
    cross: f64,
    /// Σ (code − zero)²
    square: f64,
}

kernel! {
    /// Step and zero point with the least squared error; ties go to the one tried first.
    fn best_grid<'a>(_simd, group: &'a Group<'a>, step: f32, zero: f32) -> (f32, f32) {
        if step == 0.0 {
            return (step, zero);
        }
        let mut best = group.evaluate(step, zero);
        for i in 1..CANDIDATES {
            best = group.better(best, step * (1.0 - STEP * i as f32), zero);
        }
        for _ in 0..REFINEMENTS {
            if best.square > 0.0 {
                best = group.better(best, (best.cross / best.square) as f32, best.zero);
            }
            if group.codes.middle.is_none() {
                let zero = best.zero;
                best = group.better(best, best.step, (zero - 1.0).max(0.0));
                best = group.better(best, best.step, (zero + 1.0).min(group.codes.max));
            }
        }
        (best.step, best.zero)
    }
}

impl Group<'_> {
    #[inline(always)]
    fn better(&self, best: Candidate, step: f32, zero: f32) -> Candidate {
        let candidate = self.evaluate(step, zero);
        if candidate.error < best.error { candidate } else { best }
    }

    #[inline(always)]
    fn evaluate(&self, step: f32, zero: f32) -> Candidate {
        /// f32 sums of this many values are exact enough for comparing candidates.
        const PART: usize = 4096;
        let inverse = 1.0 / step;
        let mut total = Candidate { step, zero, error: 0.0, cross: 0.0, square: 0.0 };
        for part in self.values.chunks(PART) {
            let (mut error, mut cross, mut square) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
            for x in part.chunks(LANES) {
                let x = load(x);
                for i in 0..LANES {
                    let x = x[i] * self.normalise;
                    let c = (x * inverse + ROUND) - ROUND + zero;
                    let c = if c < self.codes.min { self.codes.min } else { c };
                    let c = if c > self.codes.max { self.codes.max } else { c };
                    let d = c - zero;
                    let e = x - d * step;
                    error[i] += e * e;
                    cross[i] += x * d;
                    square[i] += d * d;
                }
            }
            total.error += f64::from(sum(error));
            total.cross += f64::from(sum(cross));
            total.square += f64::from(sum(square));
        }
        total
    }
}
