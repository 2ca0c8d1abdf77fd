//! From weights to multiples of a step.

use std::borrow::Cow;
use std::ops::Range;

use codec_api::{Cancel, EncodeCx, Result, TensorSpec};
use entropy::STATES;
use simd::{LANES, kernel, lanes, load, store};

use super::exponent::Exponent;
use super::inputs::Inputs;
use super::metric::{Distance, Lanes, RateDistortion};
use super::multiples::Multiples;
use super::segments::Segments;
use super::stats::Stats;
use super::survey::Whole;
use super::viterbi::{Room, quantise};

/// Weights of at least this many steps are stored raw.
const LARGEST: f32 = 2_097_152.0;

/// The weights of a tensor, ready for quantisation.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// Scaled by the exponent, but not by the factors of inputs.
    pub weights: Cow<'a, [f32]>,
    pub columns: usize,
    pub segments: Segments,
    pub exponent: Exponent,
    pub inputs: Option<Inputs>,
}

impl<'a> Source<'a> {
    /// The weights of `values`, which are all rows of a tensor or some of them.
    pub(super) fn new(values: &'a [f32], spec: &TensorSpec, whole: &Whole, cx: &EncodeCx<'_>) -> Result<Self> {
        let exponent = Exponent::of(whole.largest);
        let mut weights = Cow::Borrowed(values);
        if !exponent.is_none() {
            exponent.reduce(weights.to_mut());
        }
        let inputs = Inputs::of(cx, spec, whole)?;
        Ok(Self { weights, columns: spec.matrix().1, segments: Segments::of(spec), exponent, inputs })
    }

    /// The weights of a segment, each times the factor of its input.
    pub(super) fn segment(&self, segment: usize) -> Cow<'_, [f32]> {
        self.scaled(self.segments.weights(segment))
    }

    /// The weights of a flat range, each times the factor of its input.
    pub(super) fn scaled(&self, range: Range<usize>) -> Cow<'_, [f32]> {
        let weights = &self.weights[range.clone()];
        let Some(inputs) = &self.inputs else { return weights.into() };
        let mut weights = weights.to_vec();
        inputs.multiply(range.start, self.columns, &mut weights);
        weights.into()
    }

    /// Sums of squares by row and by column.
    pub(super) fn squares(&self, cancel: &Cancel) -> Result<[Vec<f64>; 2]> {
        let rows = self.weights.len().checked_div(self.columns).unwrap_or(0);
        let (mut of_rows, mut of_columns) = (vec![0.0; rows], vec![0.0; self.columns]);
        for segment in 0..self.segments.count() {
            cancel.check()?;
            let mut first = self.segments.weights(segment).start;
            let weights = self.segment(segment);
            let mut rest: &[f32] = &weights;
            while !rest.is_empty() {
                let (row, column) = (first / self.columns, first % self.columns);
                let (now, after) = rest.split_at(rest.len().min(self.columns - column));
                of_rows[row] += add_squares(now, &mut of_columns[column..]);
                (first, rest) = (first + now.len(), after);
            }
        }
        Ok([of_rows, of_columns])
    }
}

kernel! {
    /// Adds the square of each weight of a row to the sum of its column, and returns the sum of all
    /// squares.
    fn add_squares<'a>(_simd, weights: &'a [f32], columns: &'a mut [f64]) -> f64 {
        let mut sums = [0.0f64; LANES];
        for (weights, columns) in weights.chunks(LANES).zip(columns.chunks_mut(LANES)) {
            let weights = load(weights);
            let squares: [f64; LANES] = lanes!(i => f64::from(weights[i]) * f64::from(weights[i]));
            sums = lanes!(i => sums[i] + squares[i]);
            let together = load(columns);
            store(lanes!(i => together[i] + squares[i]), columns);
        }
        simd::sum(sums)
    }
}

/// Parameters of a quantisation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub states: u32,
    pub step: f32,
    /// `None` takes the nearest multiples.
    pub metric: Option<RateDistortion>,
}

/// A quantised tensor, or some segments of it.
#[derive(Debug)]
pub(super) struct Quantised {
    pub plan: Plan,
    /// The multiples of all segments that were quantised.
    pub multiples: Multiples,
    pub stats: Stats,
}

/// Whether a weight, in steps, is too large for a multiple.
#[inline(always)]
pub(super) fn too_large(x: f32) -> bool {
    x.abs() >= LARGEST
}

/// Quantises every `stride`-th segment.
pub(super) fn run(
    source: &Source<'_>,
    plan: Plan,
    stride: usize,
    room: &mut Rooms,
    cancel: &Cancel,
) -> Result<Quantised> {
    let mut found = Quantised { plan, multiples: Multiples::default(), stats: Stats::new() };
    for segment in (0..source.segments.count()).step_by(stride) {
        cancel.check()?;
        let weights = source.segment(segment);
        room.scaled.resize(weights.len(), 0.0);
        found.stats.too_large += scale(&weights, 1.0 / plan.step, &mut room.scaled);
        let x = &room.scaled;
        room.multiples.resize(x.len(), 0);
        for vector in 0..STATES / LANES {
            gather(x, vector, &mut room.x);
            room.out.resize(room.x.len(), [0; LANES]);
            match plan.metric {
                None => quantise(plan.states, Distance, &room.x, &mut room.paths, &mut room.out),
                Some(metric) => quantise(plan.states, metric, &room.x, &mut room.paths, &mut room.out),
            }
            scatter(&room.out, vector, &mut room.multiples);
        }
        found.stats.add(x, &room.multiples);
        found.multiples.push(&room.multiples);
    }
    Ok(found)
}

/// Buffers of a quantisation, reused by the next one.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    paths: Room,
    /// The weights of a segment in steps; `x` holds those of one vector.
    scaled: Vec<f32>,
    x: Vec<Lanes>,
    out: Vec<[i32; LANES]>,
    /// The multiples of a segment.
    multiples: Vec<i32>,
}

kernel! {
    /// Scales weights to steps. Weights too large for multiples become 0; returns their number.
    fn scale<'a>(_simd, weights: &'a [f32], inverse: f32, out: &'a mut [f32]) -> u64 {
        let mut large = 0;
        for (w, out) in weights.iter().zip(out) {
            let x = *w * inverse;
            *out = if too_large(x) { 0.0 } else { x };
            large += u64::from(too_large(x));
        }
        large
    }
}

/// The weights of sixteen lanes, step by step, padded with 0.
fn gather(x: &[f32], vector: usize, out: &mut Vec<Lanes>) {
    out.clear();
    out.extend(x.chunks(STATES).map(|x| load(x.get(vector * LANES..).unwrap_or_default())));
}

fn scatter(lanes: &[[i32; LANES]], vector: usize, out: &mut [i32]) {
    for (lanes, out) in lanes.iter().zip(out.chunks_mut(STATES)) {
        let out = out.get_mut(vector * LANES..).unwrap_or_default();
        let len = out.len().min(LANES);
        out[..len].copy_from_slice(&lanes[..len]);
    }
}
