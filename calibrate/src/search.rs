//! The step that meets a size: one for all tensors of a model.

use std::sync::Arc;

use checkpoint::Checkpoint;
use codec_api::{Codec, EncodeCx, InputAxis};
use rayon::prelude::*;

use crate::calibrated::Calibrated;
use crate::error::{Error, Result};

/// Most encodes of the model.
const PASSES: usize = 10;

/// Accepted distance from the size, below it.
const TOLERANCE: f64 = 5e-4;

/// Bits that a weight saves when the step doubles, at first.
const SLOPE: f64 = 0.9;

/// Bits of a weight whose step is its standard deviation.
const BITS_AT_ONE: f64 = 1.05;

/// Finds the largest step for which the payloads of some tensors have at most `bytes` bytes.
///
/// With steps inversely proportional to the square roots of pivots, one step for all tensors means
/// that a bit more lowers the expected loss equally much in each of them.
#[derive(Debug)]
pub struct StepSearch<'a> {
    /// The model.
    pub model: &'a Checkpoint,
    /// Its curvatures.
    pub calibrated: &'a Calibrated,
    /// The tensors to encode.
    pub names: &'a [&'a str],
    /// Seed of the encode.
    pub seed: u64,
}

impl StepSearch<'_> {
    /// Encodes the model several times, with the codecs that `codec` gives for a step and an axis
    /// of inputs, on rayon's current pool. The search begins at `first`, or at an estimate.
    ///
    /// # Errors
    /// [`Error::Usage`] if no step gives so few bytes; those of the encodes.
    pub fn run(
        &self,
        bytes: f64,
        first: Option<f64>,
        codec: &(dyn Fn(f64, InputAxis) -> Result<Arc<dyn Codec>> + Sync),
    ) -> Result<f64> {
        let weights = weights(self.model, self.names)?;
        let first = first.map_or_else(|| self.estimate(8.0 * bytes / weights), Ok)?;
        Ok(largest(bytes, weights, first, |step| Ok((self.bytes(step, codec)?, ())))?.0)
    }

    /// The bytes of all payloads with this step.
    fn bytes(&self, step: f64, codec: &(dyn Fn(f64, InputAxis) -> Result<Arc<dyn Codec>> + Sync)) -> Result<f64> {
        let sizes = self.names.par_iter().map(|name| {
            let axis = self.calibrated.axis(name).unwrap_or(InputAxis::Columns);
            let (codec, tensor) = (codec(step, axis)?, self.model.tensor(name)?);
            let cx = EncodeCx::for_tensor(self.seed, name);
            let fed = self.calibrated.encode(name, &codec, &tensor, &cx).map_err(|error| error.of(name))?;
            Ok(fed.payload.bytes() as f64)
        });
        sizes.sum()
    }

    /// The step for this rate, if all weights were Gaussian.
    fn estimate(&self, bits: f64) -> Result<f64> {
        let (mut sum, mut weights) = (0.0, 0.0);
        for name in self.names {
            let values = self.model.tensor(name)?.to_f32()?.into_owned();
            let power = values.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>() / values.len() as f64;
            let scale = 0.5 * libm::log2(power.max(1e-30)) + self.calibrated.log_scale(name);
            sum += scale * values.len() as f64;
            weights += values.len() as f64;
        }
        Ok(libm::exp2(sum / f64::max(weights, 1.0) + BITS_AT_ONE - bits))
    }
}

/// Number of weights of these tensors, at least 1.
pub(crate) fn weights(model: &Checkpoint, names: &[&str]) -> Result<f64> {
    let sizes = names.iter().map(|name| Ok(model.spec(name)?.elements() as f64));
    Ok(sizes.sum::<Result<f64>>()?.max(1.0))
}

/// The step with the most bytes, nearly, of those with at most `bytes`, and its result: by the
/// secant method from the step `first` on. `encode` gives the bytes and the result for a step.
///
/// # Errors
/// [`Error::Usage`] if no step gives so few bytes; those of `encode`.
pub(crate) fn largest<T>(
    bytes: f64,
    weights: f64,
    first: f64,
    mut encode: impl FnMut(f64) -> Result<(f64, T)>,
) -> Result<(f64, T)> {
    let (mut log, mut slope, mut before) = (libm::log2(first), SLOPE, None::<(f64, f64)>);
    let mut best: Option<(f64, T)> = None;
    for _ in 0..PASSES {
        let (found, result) = encode(libm::exp2(log))?;
        let above = 8.0 * (found - bytes) / weights;
        if above <= 0.0 && best.as_ref().is_none_or(|(best, _)| log < *best) {
            best = Some((log, result));
        }
        if (-TOLERANCE * bytes..=0.0).contains(&(found - bytes)) {
            break;
        }
        if let Some((other, its)) = before.filter(|(other, _)| (other - log).abs() > 1e-6) {
            slope = ((its - above) / (log - other)).clamp(0.3, 1.2);
        }
        before = Some((log, above));
        // Aims a little below the size.
        log += (above + 0.4 * TOLERANCE * 8.0 * bytes / weights) / slope;
    }
    let (log, result) =
        best.ok_or_else(|| Error::Usage(format!("no step gives {bytes:.0} bytes: the size is too small")))?;
    Ok((libm::exp2(log), result))
}
