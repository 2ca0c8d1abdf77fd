//! The choice of scales, by row or for the tensor.

use codec_api::util::relative_importance;
use codec_api::{
    Calibration, CodecError, EncodeCx, InputAxis, Pass, Result, Statistics, Surveyed, TensorView, statistics,
};
use simd::{LANES, Lanes, kernel, lanes, load, max_abs, store, sum};

use super::{CANDIDATES, Format, Fp8, PIECE};
use crate::blocks::check_finite;
use crate::minifloat::{E4m3, E5m2, Minifloat, least, scale_for};

/// The scale of a row whose largest magnitude is `magnitude`. Ties go to the scale without
/// importances, and among these to the smallest.
pub(super) fn scale_of_row(format: Format, values: &[f32], magnitude: f32, by_column: Option<&[f32]>) -> f32 {
    let scale = scale_for(magnitude, format.most());
    let mut best = least(&squared_errors(format, values, None, scale), 0);
    if by_column.is_some() {
        best = least(&squared_errors(format, values, by_column, scale), best);
    }
    scale * factor(best)
}

impl Fp8 {
    /// The scale of a tensor.
    pub(super) fn scale_of_tensor(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<f32> {
        Ok(statistics(self, tensor, cx)?.only()? as f32)
    }

    /// The squared errors of each row for each candidate, weighted by calibration whose largest
    /// mean square in the tensor is `most`.
    fn errors<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a [f32]>,
        calibration: Calibration<'_>,
        most: f32,
        scale: f32,
        cx: &EncodeCx<'_>,
    ) -> Result<Vec<f64>> {
        // A chunk has only the inputs of its rows, which need not contain the largest.
        let mut importance: Vec<f32> = calibration.mean_squares.iter().copied().chain([most]).collect();
        relative_importance(&mut importance);
        let mut errors = Vec::with_capacity(rows.len() * CANDIDATES);
        for (i, row) in rows.enumerate() {
            cx.cancel.check()?;
            let (by_column, of_row) = match calibration.axis {
                InputAxis::Columns => (Some(&*importance), 1.0),
                InputAxis::Rows => (None, f64::from(importance[i])),
            };
            errors.extend(squared_errors(self.format, row, by_column, scale).map(|error| of_row * error));
        }
        Ok(errors)
    }
}

/// The scale of a tensor. The first pass finds the largest magnitude, and the largest mean square
/// of the calibration. With calibration a second pass finds the errors of each row, one for each
/// candidate.
impl Surveyed for Fp8 {
    fn observe(&self, chunk: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics> {
        cx.cancel.check()?;
        let values = chunk.to_f32()?;
        let calibration = cx.calibration_of(chunk.spec())?;
        if let (Some(shared), Some(calibration)) = (cx.shared, calibration) {
            let &[scale, most] = shared.scalars else {
                let found = shared.scalars.len();
                return Err(CodecError::Usage(format!("{found} scalars are not statistics of a pass of `quant.fp8`")));
            };
            let [scale, most] = [scale, most].map(|scalar| scalar as f32);
            let rows = values.chunks(chunk.spec().matrix().1);
            return Ok(Statistics::new(shared.scalars.to_vec(), self.errors(rows, calibration, most, scale, cx)?));
        }
        let magnitude = max_abs(&values);
        check_finite(magnitude, &values, 0)?;
        let most = calibration.map(|calibration| largest_finite(calibration.mean_squares));
        Ok(Statistics::new([magnitude].into_iter().chain(most).map(f64::from).collect(), Vec::new()))
    }

    fn combine(&self, pass: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        let largest = |i: usize| chunks.iter().filter_map(|chunk| chunk.scalars.get(i)).copied().reduce(f64::max);
        if pass == 0 {
            let scale = scale_for(largest(0).unwrap_or(0.0) as f32, self.format.most()).into();
            return Ok(match largest(1) {
                Some(most) => Pass::Next(Statistics::new(vec![scale, most], Vec::new())),
                None => Pass::Last(Statistics::new(vec![scale], Vec::new())),
            });
        }
        let mut sums = [0.0; CANDIDATES];
        for errors in chunks.iter().flat_map(|chunk| chunk.rows.as_chunks::<CANDIDATES>().0) {
            sums.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
        }
        let scale = largest(0).unwrap_or(0.0) as f32 * factor(least(&sums, 0));
        Ok(Pass::Last(Statistics::new(vec![scale.into()], Vec::new())))
    }
}

fn largest_finite(values: &[f32]) -> f32 {
    values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max)
}

kernel! {
    /// The squared error for each candidate from `scale` to 15/8 of it, weighted by importance if
    /// it is given; infinite for a candidate beyond the range.
    fn squared_errors<'a>(
        _simd,
        format: Format,
        values: &'a [f32],
        importance: Option<&'a [f32]>,
        scale: f32,
    ) -> [f64; CANDIDATES] {
        match format {
            Format::E4m3 => squared_errors_of::<E4m3>(values, importance, scale),
            Format::E5m2 => squared_errors_of::<E5m2>(values, importance, scale),
        }
    }
}

#[inline(always)]
fn squared_errors_of<F: Minifloat>(values: &[f32], importance: Option<&[f32]>, scale: f32) -> [f64; CANDIDATES] {
    if scale == 0.0 {
        return [0.0; CANDIDATES];
    }
    let mut sums = [[0.0; LANES]; CANDIDATES];
    let mut weights = [1.0; PIECE];
    for (piece, values) in values.chunks(PIECE).enumerate() {
        let mut normal = [0.0; PIECE];
        for (x, normal) in values.chunks(LANES).zip(normal.chunks_mut(LANES)) {
            let x = load(x);
            store(lanes!(i => x[i].abs() / scale), normal);
        }
        if let Some(importance) = importance {
            weights[..values.len()].copy_from_slice(&importance[piece * PIECE..][..values.len()]);
        }
        for (k, sums) in sums.iter_mut().enumerate() {
            *sums = with_errors::<F>(&normal, &weights, factor(k), *sums);
        }
    }
    let mut errors = [f64::INFINITY; CANDIDATES];
    for (k, (error, sums)) in errors.iter_mut().zip(sums).enumerate() {
        if (scale * factor(k) * F::MOST).is_finite() {
            *error = f64::from(sum(sums));
        }
    }
    errors
}

/// Adds the weighted squared errors of magnitudes for a scale. Passing the sums by value keeps them
/// in registers.
#[inline(always)]
fn with_errors<F: Minifloat>(x: &[f32; PIECE], weights: &[f32; PIECE], scale: f32, mut sums: Lanes<f32>) -> Lanes<f32> {
    let inverse = 1.0 / scale;
    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(weights.as_chunks::<LANES>().0) {
        let off: Lanes<f32> = lanes!(i => x[i] - F::round_magnitude(x[i] * inverse).0 * scale);
        sums = lanes!(i => sums[i] + w[i] * (off[i] * off[i]));
    }
    sums
}

#[inline(always)]
fn factor(candidate: usize) -> f32 {
    1.0 + candidate as f32 / CANDIDATES as f32
}
