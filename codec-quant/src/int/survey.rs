//! One grid for the tensor, found by passes over its chunks. The first pass finds the range. With
//! `clip` or calibration, each round of the search for the least squared error is a pass.

use codec_api::util::relative_importance;
use codec_api::{CodecError, EncodeCx, InputAxis, Pass, Result, Statistics, Surveyed, TensorView};
use simd::kernel;

use super::IntQuant;
use super::clip::{Candidate, Group, ROUNDS, Search};
use super::encode::{FIRST_OCTAVE, exponent};
use super::layout::Layout;
use super::range::{Codes, Extent, find_ranges};
use super::scale::power_of_two;
use crate::blocks::check_finite;

/// What is known after a pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    range: Extent,
    /// With calibration, the largest mean square of an input.
    largest: Option<f32>,
    /// The next round: those of a search without calibration, then those of one with it.
    round: usize,
    best: Candidate,
}

impl Found {
    const SCALARS: usize = 9;

    pub(super) fn read(scalars: &[f64]) -> Result<Self> {
        let Some(&[low, high, largest, round, step, zero, error, cross, square]) = scalars.first_chunk() else {
            return Err(CodecError::Usage(format!("{} scalars are not statistics of `quant.int`", scalars.len())));
        };
        let best = Candidate { step: step as f32, zero: zero as f32, error, cross, square };
        let range = Extent { low: low as f32, high: high as f32 };
        Ok(Self { range, largest: (largest >= 0.0).then_some(largest as f32), round: round as usize, best })
    }

    fn statistics(&self) -> Statistics {
        let Candidate { step, zero, error, cross, square } = self.best;
        let floats = [self.range.low, self.range.high, self.largest.unwrap_or(-1.0), step, zero];
        let [low, high, largest, step, zero] = floats.map(f64::from);
        let scalars: [f64; Self::SCALARS] = [low, high, largest, self.round as f64, step, zero, error, cross, square];
        Statistics::new(scalars.to_vec(), Vec::new())
    }

    /// What is known about this chunk and another one.
    fn with(mut self, other: Self) -> Self {
        self.range.low = self.range.low.min(other.range.low);
        self.range.high = self.range.high.max(other.range.high);
        self.largest = if other.largest > self.largest { other.largest } else { self.largest };
        self
    }

    pub(super) fn codes(&self, codec: &IntQuant) -> Codes {
        codec.codes(self.largest.is_some())
    }

    pub(super) fn exponent(&self, codec: &IntQuant) -> i8 {
        exponent(self.codes(codec), &[self.range], FIRST_OCTAVE).unwrap_or(0)
    }

    /// Normalised step and zero point.
    pub(super) fn grid(&self) -> (f32, f32) {
        (self.best.step, self.best.zero)
    }

    fn normalise(&self, codec: &IntQuant) -> f32 {
        power_of_two(-i32::from(self.exponent(codec)))
    }

    fn search(&self, codec: &IntQuant) -> Search {
        Search::new(self.codes(codec), self.range, self.normalise(codec), self.round >= ROUNDS)
    }

    /// The grids that the next round tries.
    fn tries(&self, codec: &IntQuant) -> Vec<(f32, f32)> {
        self.search(codec).tries(self.round % ROUNDS, self.best).collect()
    }

    /// Begins the search, if there is one.
    fn begin(mut self, codec: &IntQuant) -> Pass {
        self.round = if codec.clip { 0 } else { ROUNDS };
        self.best = Candidate::first(if codec.clip {
            self.search(codec).widest
        } else {
            self.codes(codec).covering(self.range, self.normalise(codec))
        });
        self.next(codec)
    }

    /// Goes on to a round that tries a grid.
    fn next(mut self, codec: &IntQuant) -> Pass {
        let end = if self.largest.is_some() { 2 * ROUNDS } else { ROUNDS };
        while self.round < end {
            if self.round == ROUNDS {
                self.best = Candidate::first(self.grid());
            }
            if !self.tries(codec).is_empty() {
                return Pass::Next(self.statistics());
            }
            self.round += 1;
        }
        Pass::Last(self.statistics())
    }
}

impl Surveyed for IntQuant {
    fn observe(&self, chunk: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics> {
        cx.cancel.check()?;
        let Some(shared) = cx.shared else { return Ok(observe_range(self, &chunk, cx)?.statistics()) };
        let found = Found::read(shared.scalars)?;
        let mut statistics = found.statistics();
        statistics.scalars.extend(observe_sums(self, &found, &chunk, cx)?.into_iter().flat_map(limbs));
        Ok(statistics)
    }

    fn combine(&self, pass: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        let all = chunks.iter().map(|chunk| Found::read(&chunk.scalars)).collect::<Result<Vec<_>>>()?;
        if pass == 0 {
            return Ok(all.into_iter().fold(Found::default(), Found::with).begin(self));
        }
        // All chunks have got the same from the passes before.
        let mut found = all.first().copied().unwrap_or_default();
        let tries = found.tries(self);
        let mut totals = vec![0; 3 * tries.len()];
        for chunk in &chunks {
            let sums = chunk.scalars[Found::SCALARS..].as_chunks().0;
            totals.iter_mut().zip(sums).for_each(|(total, sum)| add(total, joined(*sum)));
        }
        for ((step, zero), sums) in tries.into_iter().zip(totals.as_chunks().0) {
            let [error, cross, square] = sums.map(|sum| sum as f64);
            found.best = found.best.or(Candidate { step, zero, error, cross, square });
        }
        found.round += 1;
        Ok(found.next(self))
    }
}

fn observe_range(codec: &IntQuant, chunk: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Found> {
    let (values, mut ranges) = (chunk.to_f32()?, Vec::new());
    check_finite(find_ranges(&values, &Layout::new(codec, chunk.spec()), &mut ranges), &values, 0)?;
    let finite = |largest: f32, h: &f32| if h.is_finite() { largest.max(*h) } else { largest };
    let largest = cx.calibration_of(chunk.spec())?.map(|inputs| inputs.mean_squares.iter().fold(0.0, finite));
    Ok(Found { range: ranges.first().copied().unwrap_or_default(), largest, ..Found::default() })
}

/// Three sums of a chunk for each grid that the round tries, in units of 2⁻⁴⁰. Sums of integers do
/// not depend on how the rows are divided into chunks.
fn observe_sums(codec: &IntQuant, found: &Found, chunk: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Vec<i128>> {
    let (values, columns) = (chunk.to_f32()?, chunk.spec().matrix().1);
    let calibration = cx.calibration_of(chunk.spec())?.filter(|_| found.round >= ROUNDS);
    let axis = calibration.map(|inputs| inputs.axis);
    // Importances are relative to the largest one of the tensor.
    let mut inputs = calibration.map_or_else(Vec::new, |inputs| inputs.mean_squares.to_vec());
    inputs.push(found.largest.unwrap_or(0.0));
    relative_importance(&mut inputs);
    let weights = (axis == Some(InputAxis::Columns)).then(|| &inputs[..columns]);
    let group = Group { values: &[], weights, codes: found.codes(codec), normalise: found.normalise(codec) };
    let tries = found.tries(codec);
    let mut sums = vec![0; 3 * tries.len()];
    for (row, values) in values.chunks(columns.max(1)).enumerate() {
        cx.cancel.check()?;
        let factor = if axis == Some(InputAxis::Rows) { inputs[row] } else { 1.0 };
        add_row(&Group { values, ..group }, factor.into(), &tries, &mut sums);
    }
    Ok(sums)
}

kernel! {
    /// Adds the sums of one row, times `factor`, to those of each grid.
    fn add_row<'a>(_simd, row: &'a Group<'a>, factor: f64, grids: &'a [(f32, f32)], sums: &'a mut [i128]) {
        const UNITS: f64 = (1u64 << 40) as f64;
        for (grid, sums) in grids.iter().zip(sums.as_chunks_mut::<3>().0) {
            let Candidate { error, cross, square, .. } = row.evaluate(*grid);
            for (total, sum) in sums.iter_mut().zip([error, cross, square]) {
                add(total, (factor * sum * UNITS) as i128);
            }
        }
    }
}

/// Adds to a sum. The addition saturates only for weights of no practical magnitude.
fn add(total: &mut i128, sum: i128) {
    *total = total.saturating_add(sum);
}

/// Bits of all but the highest scalar of a sum.
const LIMB: u32 = 43;

/// A sum as scalars that f64 holds exactly, lowest bits first.
fn limbs(sum: i128) -> [f64; 3] {
    let low = (1 << LIMB) - 1;
    [sum & low, sum >> LIMB & low, sum >> (2 * LIMB)].map(|limb| limb as f64)
}

/// The inverse of [`limbs`].
fn joined(limbs: [f64; 3]) -> i128 {
    let [low, middle, high] = limbs.map(|limb| limb as i128);
    high << (2 * LIMB) | middle << LIMB | low
}
