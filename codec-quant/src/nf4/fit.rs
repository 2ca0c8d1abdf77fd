//! The search for the maxima of blocks with the least weighted squared error.

use codec_api::InputAxis;
use codec_api::util::Importance;
use simd::{LANES, Simd, kernel, lanes, sum};

use super::{BLOCK, LEVELS, MIDDLES, dequantise_maximum, quantise_maximum};

/// What the searches for all blocks have in common.
#[derive(Debug)]
pub(super) struct Fit<'a> {
    pub(super) importance: &'a Importance,
    /// Columns of the tensor.
    pub(super) columns: usize,
    /// The scale of the maxima with double quantisation.
    pub(super) scale: Option<f32>,
}

impl Fit<'_> {
    /// Replaces the maxima of blocks by better ones; `start` is the place of the first value.
    pub(super) fn search(&self, values: &[f32], start: usize, maxima: &mut [f32]) {
        for (i, (block, maximum)) in values.chunks(BLOCK).zip(maxima).enumerate() {
            let places = start + i * BLOCK..start + i * BLOCK + block.len();
            let one_row = places.start / self.columns == (places.end - 1) / self.columns;
            if !maximum.is_normal() || self.importance.axis() == InputAxis::Rows && one_row {
                continue;
            }
            let mut candidates = Candidates { x: [0.0; BLOCK], w: [0.0; BLOCK], maximum: *maximum, scale: self.scale };
            for (k, (x, place)) in block.iter().zip(places).enumerate() {
                candidates.x[k] = x / *maximum;
                candidates.w[k] = self.importance.of(place);
            }
            *maximum = best_maximum(&candidates);
        }
    }
}

/// Candidates for the maximum of one block.
#[derive(Debug)]
struct Candidates {
    /// The weights in units of the maximum; zeros pad the last block.
    x: [f32; BLOCK],
    /// Importances.
    w: [f32; BLOCK],
    maximum: f32,
    scale: Option<f32>,
}

/// A candidate and its weighted sums over the block, in units of the block's maximum.
#[derive(Clone, Copy)]
struct Candidate {
    maximum: f32,
    /// Σ (x − ŵ)²
    error: f32,
    /// Σ x·level
    cross: f32,
    /// Σ level²
    square: f32,
}

kernel! {
    /// The maximum with the least squared error; ties go to the one tried first.
    fn best_maximum<'a>(simd, candidates: &'a Candidates) -> f32 {
        /// Candidates below and above the largest weight.
        const BELOW: usize = 25;
        const ABOVE: usize = 10;
        const STEP: f32 = 0.02;
        const REFINEMENTS: usize = 3;
        let mut best = candidates.evaluate(simd, 1.0);
        for i in 1..=BELOW + ABOVE {
            let step = if i <= BELOW { -STEP * i as f32 } else { STEP * (i - BELOW) as f32 };
            best = candidates.better(simd, best, 1.0 + step);
        }
        for _ in 0..REFINEMENTS {
            if best.square > 0.0 {
                best = candidates.better(simd, best, best.cross / best.square);
            }
        }
        best.maximum
    }
}

impl Candidates {
    #[inline(always)]
    fn better<S: Simd>(&self, simd: S, best: Candidate, factor: f32) -> Candidate {
        let candidate = self.evaluate(simd, factor);
        if candidate.error < best.error { candidate } else { best }
    }

    /// Evaluates the block's largest weight times `factor`.
    #[inline(always)]
    fn evaluate<S: Simd>(&self, simd: S, factor: f32) -> Candidate {
        let maximum = (self.maximum * factor).min(f32::MAX);
        let stored = self.scale.map_or(maximum, |scale| dequantise_maximum(quantise_maximum(maximum, scale), scale));
        let unit = stored / self.maximum;
        let inverse = if stored.is_normal() { 1.0 / unit } else { 0.0 };
        let (mut error, mut cross, mut square) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for (x, w) in self.x.as_chunks::<LANES>().0.iter().zip(self.w.as_chunks::<LANES>().0) {
            let levels = simd.lookup16(&LEVELS, &simd.rank16(&MIDDLES, &lanes!(i => x[i] * inverse)));
            for i in 0..LANES {
                let e = x[i] - levels[i] * unit;
                error[i] += e * e * w[i];
                cross[i] += x[i] * levels[i] * w[i];
                square[i] += levels[i] * levels[i] * w[i];
            }
        }
        Candidate { maximum, error: sum(error), cross: sum(cross), square: sum(square) }
    }
}
