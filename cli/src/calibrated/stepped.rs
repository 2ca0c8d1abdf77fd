//! One step for all matrices, which meets a size or a KL divergence.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Result, bail};
use calibrate::{Fit, Fitted};
use checkpoint::{Recipe, Rule};
use codec_api::{Codec, CodecError, InputAxis};
use regex::Regex;

use super::{Goal, Job, Ready, pattern};

/// States of the trellis.
const STATES: u32 = 64;

/// The codec of tensors of one axis.
const VECTORS: &str = "quant.cast:to=f16";

/// Most times that the model is packed until the file has its size.
const ROUNDS: usize = 3;

/// Accepted distance of the file from its size, below it.
const TOLERANCE: f64 = 1e-3;

/// Approximate bytes of a tensor's entry in the manifest, before it is known.
const ENTRY: f64 = 600.0;

/// Packs the model.
pub(super) fn run(job: &Job<'_>, fit: &Fit<'_>, goal: Goal, out: &mut dyn Write) -> Result<()> {
    let plan = job.pool.install(|| job.plan(&recipe(job, fit, 1.0)?))?;
    job.check_target(&plan)?;
    let codec = |step: f64, axis: InputAxis| -> calibrate::Result<Arc<dyn Codec>> {
        let codec = job.registry.parse_spec(&spec(step, axis));
        codec.map_err(|error| calibrate::Error::Codec(CodecError::codec(error)))
    };
    let damping = job.args.calibration.damping;
    let (each, weights) = (|tried: &Fitted| job.show(tried), job.weights()? as f64);
    let wanted = match goal {
        Goal::Bits(bits) => bits * weights / 8.0,
        Goal::Bytes(bytes) => bytes,
        Goal::Divergence(kl) => {
            let fitted = job.pool.install(|| fit.divergence(kl, damping, &codec, &each))?;
            let (plan, size) = pack(job, fit, &fitted)?;
            return job.summary(&plan, Some(&fitted), size, out);
        }
    };
    let mut others = others(job, fit)?;
    let payloads = |others: f64| {
        if wanted > others {
            return Ok(wanted - others);
        }
        bail!("{wanted:.0} bytes are too few: tensors without feedback and the manifest take about {others:.0}");
    };
    let bytes = payloads(others)?;
    let mut fitted = job.pool.install(|| fit.stepped(bytes, damping, &codec, &each))?;
    for round in 1.. {
        let (plan, size) = pack(job, fit, &fitted)?;
        let miss = (size as f64 - wanted) / wanted;
        if (-TOLERANCE..=0.0).contains(&miss) || round == ROUNDS {
            return job.summary(&plan, Some(&fitted), size, out);
        }
        // Now everything but the payloads is known.
        others = size as f64 - fitted.compressed.bytes() as f64;
        let bytes = payloads(others)?;
        fitted = job.pool.install(|| fit.resize(fitted, bytes, &codec))?;
        job.show(&fitted);
    }
    Ok(())
}

fn pack(job: &Job<'_>, fit: &Fit<'_>, fitted: &Fitted) -> Result<(checkpoint::Plan, u64)> {
    let mut recipe = recipe(job, fit, fitted.step)?;
    recipe.calibration = Some(job.identity(fitted));
    let plan = job.pool.install(|| job.plan(&recipe))?;
    let size = job.pack(&plan, &Ready(&fitted.compressed))?;
    Ok((plan, size))
}

fn spec(step: f64, axis: InputAxis) -> String {
    let order = if axis == InputAxis::Rows { "rows" } else { "columns" };
    format!("trellis.columns:states={STATES}:order={order}:step={step:e}")
}

/// An estimate of the bytes of everything but the payloads of tensors with feedback.
fn others(job: &Job<'_>, fit: &Fit<'_>) -> Result<f64> {
    let mut bytes = 0.0;
    for name in job.model.names() {
        bytes += ENTRY + if fit.names.contains(&name) { 0.0 } else { 2.0 * job.model.spec(name)?.elements() as f64 };
    }
    Ok(bytes)
}

/// `trellis.columns` for tensors with feedback; for other matrices, which have no statistics,
/// integers of 8 bits.
fn recipe(job: &Job<'_>, fit: &Fit<'_>, step: f64) -> Result<Recipe> {
    let options = &job.args.options;
    let mut recipe = Recipe::for_matrices("quant.int:preset=int8");
    for axis in [InputAxis::Columns, InputAxis::Rows] {
        let axis_of = |name: &str| fit.subject.statistics.tensors.get(name).map(|found| found.axis);
        let of_axis: Vec<&str> = fit.names.iter().copied().filter(|name| axis_of(name) == Some(axis)).collect();
        if !of_axis.is_empty() {
            recipe.rules.insert(0, Rule::of_names(&pattern(&of_axis, &job.model)?, &spec(step, axis)));
        }
    }
    recipe.rules.push(Rule::for_vectors(VECTORS));
    recipe.rules.splice(0..0, options.rules_of_names()?);
    let texts = |patterns: &[Regex]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect::<Vec<_>>();
    recipe.include = texts(&options.include);
    recipe.exclude = texts(&options.exclude);
    Ok(recipe)
}
