//! The scale of ternary weights.

use std::hint::black_box;

use codec_api::util::{first_non_finite, relative_importance};
use codec_api::{
    CodecError, EncodeCx, InputAxis, Need, Pass, Result, Statistics, Surveyed, TensorSpec, TensorView, statistics,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, lanes, load, sum};

use super::Ternary;
use super::histogram::Histogram;
use crate::Scope;

/// How the scale is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The scale with the least squared error, weighted by calibration if there is one.
    #[default]
    LeastSquares,
    /// The mean magnitude, as `BitNet` b1.58 does.
    Absmean,
}

/// Mean squares of inputs, along columns relative to the largest.
type Importance = (InputAxis, Vec<f32>);

impl Fit {
    /// Arithmetic operations per weight.
    pub(super) fn ops(self) -> f64 {
        if self == Self::LeastSquares { 40.0 } else { 4.0 }
    }

    /// What the fit does with calibration.
    pub(super) fn calibration(self) -> Need {
        if self == Self::LeastSquares { Need::Uses } else { Need::No }
    }

    /// Most passes from one start.
    fn passes(self) -> usize {
        if self == Self::LeastSquares { 31 } else { 1 }
    }
}

impl Ternary {
    /// The scales of a tensor.
    pub(super) fn scales(&self, spec: &TensorSpec, values: &[f32], cx: &EncodeCx<'_>) -> Result<Vec<f32>> {
        if self.scope == Scope::Tensor {
            let found = statistics(self, &TensorView::from_f32(spec.shape(), values)?, cx)?;
            return Ok(vec![found.only()? as f32]);
        }
        let importance = self.importance(spec, cx)?;
        let mut histogram = Histogram::new();
        let scale = |(row, weights)| {
            cx.cancel.check()?;
            let (mut search, mut pass) = (Search::new(importance.is_some()), 0);
            if self.fit == Fit::LeastSquares {
                let [total, count] = plain_sums(weights, -1.0);
                let mean = (total / count) as f32;
                (search.scale, pass) = (mean.into(), 1);
                // Otherwise no higher threshold is better than a scale of the mean for all weights.
                if !mean.is_finite() || squares_above_twice(weights, mean) >= count {
                    histogram.add(weights);
                    search.scale = histogram.take_scale();
                }
            }
            while !search.step(self.fit, pass, search.sums(row, weights, importance.as_ref())?) {
                pass += 1;
            }
            Ok(search.best as f32)
        };
        values.chunks(spec.matrix().1.max(1)).enumerate().map(scale).collect()
    }

    fn importance(&self, spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Importance>> {
        let Some(calibration) = cx.calibration_of(spec)? else { return Ok(None) };
        let (axis, mut inputs) = (calibration.axis, calibration.mean_squares.to_vec());
        match axis {
            // In a row that belongs to one input, all errors count the same.
            _ if self.fit == Fit::Absmean || (self.scope, axis) == (Scope::Row, InputAxis::Rows) => return Ok(None),
            InputAxis::Columns => relative_importance(&mut inputs),
            // A chunk does not know the largest mean square of all rows.
            InputAxis::Rows => inputs.iter_mut().for_each(|h| *h = if *h > 0.0 { h.min(f32::MAX) } else { 0.0 }),
        }
        Ok(Some((axis, inputs)))
    }
}

/// The first pass of least squares finds a histogram, each other pass the sums of each row. Between
/// the passes, the state of the search is the statistics; after the last one, the scale.
impl Surveyed for Ternary {
    fn observe(&self, chunk: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics> {
        let (spec, values) = (chunk.spec(), chunk.to_f32()?);
        let importance = self.importance(spec, cx)?;
        let search = cx.shared.map_or(Search::new(importance.is_some()), |shared| Search::read(shared.scalars));
        if cx.shared.is_none() && self.fit == Fit::LeastSquares {
            cx.cancel.check()?;
            let mut histogram = Histogram::new();
            histogram.add(&values);
            return Ok(Statistics::new(search.scalars().into_iter().chain(histogram.scalars()).collect(), Vec::new()));
        }
        let mut sums = Vec::with_capacity(2 * spec.matrix().0);
        for (row, weights) in values.chunks(spec.matrix().1.max(1)).enumerate() {
            cx.cancel.check()?;
            sums.extend(search.sums(row, weights, importance.as_ref())?);
        }
        Ok(Statistics::new(search.scalars().to_vec(), sums))
    }

    fn combine(&self, pass: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        let mut search = chunks.first().map_or(Search::new(false), |chunk| Search::read(&chunk.scalars));
        // A chunk without rows does not know whether there is calibration.
        search.weighted = chunks.iter().any(|chunk| Search::read(&chunk.scalars).weighted);
        if pass == 0 && self.fit == Fit::LeastSquares {
            let mut histogram = Histogram::new();
            for chunk in &chunks {
                histogram.add_scalars(chunk.scalars.get(Search::SCALARS..).unwrap_or_default());
            }
            search.scale = histogram.take_scale();
            return Ok(Pass::Next(Statistics::new(search.scalars().to_vec(), Vec::new())));
        }
        let rows = chunks.iter().flat_map(|chunk| chunk.rows.as_chunks::<2>().0);
        let sums = rows.fold([0.0; 2], |all, row| [all[0] + row[0], all[1] + row[1]]);
        let last = search.step(self.fit, pass, sums);
        let pass = if last { Pass::Last } else { Pass::Next };
        Ok(pass(Statistics::new(if last { vec![search.best] } else { search.scalars().to_vec() }, Vec::new())))
    }
}

/// A search for the scale. It alternates between assigning weights to levels and fitting the scale,
/// until the scale stays the same. The first start ignores calibration. It begins with the scale of
/// the histogram's best threshold, because the mean magnitude leads to a wrong scale beside a few
/// weights that are far larger than all others. A row without such weights begins with its mean
/// magnitude, which is faster. With calibration two more starts use weighted sums, one from the
/// scale that was found and one from 0, and the search keeps the scale with the least weighted
/// error.
struct Search {
    weighted: bool,
    /// Number of starts so far, after the first.
    starts: usize,
    scale: f64,
    /// The best scale so far, and how much smaller its error is than that of zeros.
    best: f64,
    gain: f64,
}

impl Search {
    const SCALARS: usize = 5;

    /// In the first pass, the threshold is below all magnitudes.
    fn new(weighted: bool) -> Self {
        Self { weighted, starts: 0, scale: -1.0, best: 0.0, gain: 0.0 }
    }

    fn scalars(&self) -> [f64; Self::SCALARS] {
        [f64::from(u8::from(self.weighted)), self.starts as f64, self.scale, self.best, self.gain]
    }

    fn read(scalars: &[f64]) -> Self {
        let at = |i: usize| scalars.get(i).copied().unwrap_or(0.0);
        Self { weighted: at(0) > 0.0, starts: at(1) as usize, scale: at(2), best: at(3), gain: at(4) }
    }

    /// `Σ h·|w|` and `Σ h` over the weights of a row whose magnitudes are above half the scale.
    fn sums(&self, row: usize, weights: &[f32], importance: Option<&Importance>) -> Result<[f64; 2]> {
        let threshold = (0.5 * self.scale) as f32;
        let importance = importance.filter(|_| self.starts > 0);
        if let Some((InputAxis::Columns, inputs)) = importance {
            return Ok(weighted_sums(weights, inputs, threshold));
        }
        let mut sums = plain_sums(weights, threshold);
        if !sums[0].is_finite() {
            if let Some(index) = first_non_finite(weights) {
                return Err(CodecError::NonFinite { index: row * weights.len() + index });
            }
            // The sum of large weights overflows f32.
            sums[0] = weighted_sums(weights, &[1.0; LANES], threshold)[0];
        }
        let of_row = importance.map_or(1.0, |(_, inputs)| f64::from(inputs[row]));
        Ok(sums.map(|sum| of_row * sum))
    }

    /// Goes on with the sums over all rows; says whether `best` is the result.
    fn step(&mut self, fit: Fit, pass: usize, [total, count]: [f64; 2]) -> bool {
        let gain = self.scale * (2.0 * total - self.scale * count);
        if gain > self.gain {
            (self.best, self.gain) = (self.scale, gain);
        }
        let mean = if count == 0.0 { 0.0 } else { f64::from((total / count) as f32) };
        if mean != self.scale && pass + 1 < fit.passes() * (self.starts + 1) {
            self.scale = mean;
            return false;
        }
        (self.scale, self.starts) = (0.0, self.starts + 1);
        if self.starts == 1 {
            (self.scale, self.best, self.gain) = (mean, mean, f64::NEG_INFINITY);
        }
        !self.weighted || self.starts == 3
    }
}

kernel! {
    /// `Σ h·|w|` and `Σ h` over the weights whose magnitudes are above `threshold`. `importance`
    /// begins again where it ends. Below a negative threshold, `Σ h` has the padding too.
    fn weighted_sums<'a>(_simd, weights: &'a [f32], importance: &'a [f32], threshold: f32) -> [f64; 2] {
        let (mut totals, mut counts) = ([0.0f64; LANES], [0.0f64; LANES]);
        for (x, h) in weights.chunks(LANES).zip(importance.chunks(LANES).cycle()) {
            let (x, h): ([f32; LANES], [f32; LANES]) = (load(x), load(h));
            let h: [f64; LANES] = lanes!(i => if x[i].abs() > threshold { f64::from(h[i]) } else { 0.0 });
            totals = lanes!(i => totals[i] + h[i] * f64::from(x[i].abs()));
            counts = lanes!(i => counts[i] + h[i]);
        }
        [sum(black_box(totals)), sum(black_box(counts))]
    }
}

kernel! {
    /// `Σ (w/unit)²` over the weights whose magnitudes are above `2·unit`.
    fn squares_above_twice<'a>(_simd, weights: &'a [f32], unit: f32) -> f64 {
        let (mut sums, inverse) = ([0.0f32; LANES], 1.0 / unit);
        for x in weights.chunks(LANES) {
            let x: [f32; LANES] = load(x);
            let x: [f32; LANES] = lanes!(i => x[i] * inverse);
            sums = lanes!(i => sums[i] + if x[i].abs() > 2.0 { x[i] * x[i] } else { 0.0 });
        }
        f64::from(sum(black_box(sums)))
    }
}

kernel! {
    /// Sum and number of the magnitudes above `threshold`.
    fn plain_sums<'a>(_simd, weights: &'a [f32], threshold: f32) -> [f64; 2] {
        /// Weights summed in f32; the sums are added in f64.
        const PART: usize = 4096;
        let (mut total, mut total_count) = (0.0, 0.0);
        for part in weights.chunks(PART) {
            let (mut sums, mut counts) = ([0.0f32; LANES], [0.0f32; LANES]);
            for x in part.chunks(LANES) {
                let x = load(x);
                // NaN fails the comparison, so it shows in the result.
                let magnitudes: [f32; LANES] = lanes!(i => if x[i].abs() <= threshold { 0.0 } else { x[i].abs() });
                sums = lanes!(i => sums[i] + magnitudes[i]);
                counts = lanes!(i => counts[i] + if x[i].abs() <= threshold { 0.0 } else { 1.0 });
            }
            // `black_box` stores the sums in memory. Otherwise the compiler merges the tree of the
            // sum into the loop and does not vectorise it.
            total += f64::from(sum(black_box(sums)));
            total_count += f64::from(sum(black_box(counts)));
        }
        // The zeros that pad the last block count only below a negative threshold.
        [total, if threshold < 0.0 { weights.len() as f64 } else { total_count }]
    }
}
