//! The settings of a compression: damping by the held-out sequences, the step by the size.

use std::sync::Arc;

use codec_api::{Codec, InputAxis};

use crate::calibrated::{Calibrated, damping};
use crate::error::{Error, Result};
use crate::search::{StepSearch, largest, weights};
use crate::sequential::{Choice, Compressed, Sequential, Subject};

/// The factor between dampings that are tried.
const APART: f64 = 2.5;

/// Most dampings that are tried.
const TRIED: usize = 5;

/// Most compressions until one has its divergence.
const PASSES: usize = 4;

/// Chooses the settings of a compression.
#[derive(Clone, Copy, Debug)]
pub struct Fit<'a> {
    /// What is compressed.
    pub subject: Subject<'a>,
    /// The tensors to encode.
    pub names: &'a [&'a str],
}

/// The codec for a step and an axis of inputs.
pub type Stepped<'a> = dyn Fn(f64, InputAxis) -> Result<Arc<dyn Codec>> + Sync + 'a;

/// A compression with some damping, near another one: its step, and the result.
type Compress<'a> = dyn Fn(&Calibrated, Option<&Fitted>) -> Result<(f64, Compressed)> + 'a;

/// A compression, and its settings.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Damping of the curvatures, relative to the mean of their diagonals.
    pub damping: f64,
    /// The step of all tensors; 0 if codecs have none.
    pub step: f64,
    /// The result.
    pub compressed: Compressed,
}

impl Fit<'_> {
    /// Compresses with codecs of a fixed rate, with several dampings or the given one, and returns
    /// the result with the least KL divergence on the held-out sequences. `each` is told every
    /// result.
    ///
    /// # Errors
    /// As [`Sequential::run`].
    pub fn fixed(&self, bits: f64, given: Option<f64>, codec: &Choice<'_>, each: &dyn Fn(&Fitted)) -> Result<Fitted> {
        let compress = |calibrated: &Calibrated, _: Option<&Fitted>| Ok((0.0, self.compress(calibrated, codec)?));
        self.least((bits, given), &compress, &|fitted| fitted.compressed.divergence.unwrap_or(0.0), each)
    }

    /// As [`Self::fixed`], with codecs that have a step, and about `bytes` bytes of payloads.
    ///
    /// # Errors
    /// As [`StepSearch::run`] and [`Sequential::run`].
    pub fn stepped(
        &self,
        bytes: f64,
        given: Option<f64>,
        codec: &Stepped<'_>,
        each: &dyn Fn(&Fitted),
    ) -> Result<Fitted> {
        let weights = self.weights()?;
        let compress = |calibrated: &Calibrated, best: Option<&Fitted>| {
            let Subject { source: model, seed, .. } = self.subject;
            let search = StepSearch { model, calibrated, names: self.names, seed };
            let step = search.run(bytes, best.map(|best| best.step), codec)?;
            Ok((step, self.with_step(calibrated, step, codec)?))
        };
        // A bit per weight divides the divergence by four.
        let loss = |fitted: &Fitted| {
            let excess = 8.0 * (fitted.compressed.bytes() as f64 - bytes) / weights;
            fitted.compressed.divergence.unwrap_or(0.0) * libm::exp2(2.0 * excess)
        };
        self.least((8.0 * bytes / weights, given), &compress, &loss, each)
    }

    /// Changes the step until the payloads have at most `bytes` bytes, and nearly as many.
    ///
    /// # Errors
    /// [`Error::Usage`] if no step gives so few bytes; as [`Sequential::run`].
    pub fn resize(&self, fitted: Fitted, bytes: f64, codec: &Stepped<'_>) -> Result<Fitted> {
        let Fitted { damping, step, compressed } = fitted;
        let calibrated = self.calibrated(damping)?;
        let mut known = Some(compressed);
        let (step, compressed) = largest(bytes, self.weights()?, step, |step| {
            let compressed = known.take().map_or_else(|| self.with_step(&calibrated, step, codec), Ok)?;
            Ok((compressed.bytes() as f64, compressed))
        })?;
        Ok(Fitted { damping, step, compressed })
    }

    /// As [`Self::stepped`], with the largest step, nearly, that has at most this KL divergence on
    /// the held-out sequences.
    ///
    /// # Errors
    /// [`Error::Usage`] if no sequences are held out; as [`Self::stepped`].
    pub fn divergence(
        &self,
        most: f64,
        given: Option<f64>,
        codec: &Stepped<'_>,
        each: &dyn Fn(&Fitted),
    ) -> Result<Fitted> {
        // The logarithm of the divergence above the wanted one. A bit per weight lowers it by 2.
        let above = |fitted: &Fitted| -> Result<f64> {
            let missing = || Error::Usage("no sequences are held out; give `netweight calibrate` more text".to_owned());
            Ok(libm::log2(fitted.compressed.divergence.ok_or_else(missing)?.max(1e-12) / most))
        };
        // On few sequences, the divergence is not quite monotone in the size.
        let mut best: Option<Fitted> = None;
        let mut judge = |tried: &Fitted| -> Result<f64> {
            let (excess, bytes) = (above(tried)?, tried.compressed.bytes());
            if excess <= 0.0 && best.as_ref().is_none_or(|best| bytes < best.compressed.bytes()) {
                best = Some(tried.clone());
            }
            Ok(excess)
        };
        let weights = self.weights()?;
        let mut bits = 3.0;
        let mut now = self.stepped(bits * weights / 8.0, given, codec, each)?;
        // Another rate may want another damping.
        for _ in 0..PASSES {
            let change = 0.5 * judge(&now)?;
            if change.abs() < 0.25 {
                break;
            }
            bits = (bits + change).clamp(0.5, 12.0);
            now = self.stepped(bits * weights / 8.0, given, codec, each)?;
        }
        let calibrated = self.calibrated(now.damping)?;
        for pass in 0..=PASSES {
            let excess = judge(&now)?;
            if pass == PASSES || (-0.05..=0.0).contains(&excess) {
                break;
            }
            let step = now.step * libm::exp2(-0.5 * (excess + 0.02));
            let compressed = self.with_step(&calibrated, step, codec)?;
            now = Fitted { step, compressed, ..now };
            each(&now);
        }
        let reason = || format!("no step gives a KL divergence of {most:e} on the held-out sequences");
        best.ok_or_else(|| Error::Usage(reason()))
    }

    /// The compression with the least loss, of those with several dampings for this rate: the usual
    /// one, and larger or smaller ones until the loss grows.
    fn least(
        &self,
        (bits, given): (f64, Option<f64>),
        compress: &Compress<'_>,
        loss: &dyn Fn(&Fitted) -> f64,
        each: &dyn Fn(&Fitted),
    ) -> Result<Fitted> {
        let fit = |damping: f64, near: Option<&Fitted>| {
            // Factors take more memory than weights: those of one damping are there at a time.
            let (step, compressed) = compress(&self.calibrated(damping)?, near)?;
            let fitted = Fitted { damping, step, compressed };
            each(&fitted);
            Ok::<_, Error>(fitted)
        };
        let mut best = fit(given.unwrap_or_else(|| damping(bits)), None)?;
        if given.is_some() || self.subject.statistics.held_out.is_empty() {
            return Ok(best);
        }
        let (mut tried, mut factor) = (1, APART);
        while tried < TRIED {
            let other = fit(best.damping * factor, Some(&best))?;
            tried += 1;
            if loss(&other) < loss(&best) {
                best = other;
            } else if tried == 2 {
                factor = 1.0 / APART;
            } else {
                break;
            }
        }
        Ok(best)
    }

    fn calibrated(&self, damping: f64) -> Result<Calibrated> {
        Calibrated::new(self.subject.statistics, damping)
    }

    fn compress(&self, calibrated: &Calibrated, codec: &Choice<'_>) -> Result<Compressed> {
        Sequential { subject: self.subject, calibrated }.run(codec)
    }

    fn with_step(&self, calibrated: &Calibrated, step: f64, codec: &Stepped<'_>) -> Result<Compressed> {
        self.compress(calibrated, &|name, axis| self.names.contains(&name).then(|| codec(step, axis)).transpose())
    }

    fn weights(&self) -> Result<f64> {
        weights(self.subject.source, self.names)
    }
}
