//! The range of each group, and the grid that covers it.

use simd::{LANES, kernel, load, magnitudes};

use super::layout::Layout;
use super::scale::Grids;

/// Smallest and largest value of a group, extended to include zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    pub(super) low: f32,
    pub(super) high: f32,
}

kernel! {
    /// Appends the range of each group. Returns the largest magnitude, infinite if a value is not
    /// finite.
    pub(super) fn find_ranges<'a>(simd, values: &'a [f32], layout: &'a Layout, ranges: &'a mut Vec<Extent>) -> f32 {
        let mut largest = [0; LANES];
        let (row, width) = layout.group_spans(values);
        for row in values.chunks(row) {
            for group in row.chunks(width) {
                let (mut high, mut minus_low) = ([0.0; LANES], [0.0; LANES]);
                let (blocks, rest) = group.as_chunks::<LANES>();
                let last = load(rest);
                // Every range includes zero, so zeros may pad the last block.
                for x in blocks.iter().chain((!rest.is_empty()).then_some(&last)) {
                    for i in 0..LANES {
                        high[i] = if x[i] > high[i] { x[i] } else { high[i] };
                        minus_low[i] = if -x[i] > minus_low[i] { -x[i] } else { minus_low[i] };
                    }
                    largest = simd.max_magnitude(&largest, x);
                }
                ranges.push(Extent { low: -simd.reduce_max(&minus_low), high: simd.reduce_max(&high) });
            }
        }
        simd.reduce_max(&magnitudes(largest))
    }
}

/// The codes available to grids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codes {
    pub(super) min: f32,
    pub(super) max: f32,
    /// The zero point of symmetric grids.
    pub(super) middle: Option<f32>,
}

impl Codes {
    /// The largest step of the grids that cover these ranges, not normalised.
    pub(super) fn largest_step(&self, ranges: &[Extent]) -> f64 {
        ranges.iter().fold(0.0, |largest: f64, range| {
            let (low, high) = (f64::from(range.low), f64::from(range.high));
            largest.max(
                self.middle
                    .map_or((high - low) / f64::from(self.max), |middle| high.max(-low) / f64::from(middle - 1.0)),
            )
        })
    }

    /// Normalised step and zero point of the grid that covers a range.
    #[inline(always)]
    pub(super) fn covering(&self, range: Extent, normalise: f32) -> (f32, f32) {
        let (low, high) = (range.low * normalise, range.high * normalise);
        if let Some(middle) = self.middle {
            return ((if high > -low { high } else { -low }) / (middle - 1.0), middle);
        }
        let step = (high - low) / self.max;
        (step, if step > 0.0 { (-low / step).round_ties_even() } else { 0.0 })
    }
}

kernel! {
    /// The grids that cover the ranges; every grid contains zero.
    pub(super) fn covering<'a>(_simd, codes: Codes, ranges: &'a [Extent], normalise: f32) -> Grids {
        let mut grids = Grids { steps: vec![0.0; ranges.len()], zeros: vec![0.0; ranges.len()] };
        for ((range, step), zero) in ranges.iter().zip(&mut grids.steps).zip(&mut grids.zeros) {
            (*step, *zero) = codes.covering(*range, normalise);
        }
        grids
    }
}
