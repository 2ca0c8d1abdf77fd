//! One step for all matrices, which meets a size or a KL divergence.

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use calibrate::{Fit, Fitted};
use checkpoint::{Recipe, Rule};
use codec_api::{Codec, CodecError, InputAxis};

use super::{Goal, Job, Ready, pattern, payloads};

/// States of the trellis.
const STATES: u32 = 64;

/// Most times that the model is packed until the file has its size.
const ROUNDS: usize = 3;

/// Accepted distance of the file from its size, below it.
const TOLERANCE: f64 = 1e-3;

/// Packs the model.
pub(super) fn run(job: &Job<'_>, fit: &Fit<'_>, goal: Goal, out: &mut dyn Write) -> Result<()> {
    let plan = job.pool.install(|| job.plan(&recipe(job, fit, 1.0)?))?;
    job.check_target(&plan)?;
    let codec = |step: f64, axis: InputAxis| -> calibrate::Result<Arc<dyn Codec>> {
        let codec = job.registry.parse_spec(&spec(step, axis));
        codec.map_err(|error| calibrate::Error::Codec(CodecError::codec(error)))
    };
    let damping = job.args.calibration.damping;
    let (each, weights) = (|tried: &Fitted| job.show(tried), job.model.weights() as f64);
    let wanted = match goal {
        Goal::Bits(bits) => bits * weights / 8.0,
        Goal::Bytes(bytes) => bytes,
        Goal::Divergence(kl) => {
            let mut fitted = job.pool.install(|| fit.divergence(kl, damping, &codec, &each))?;
            let plan = job.pool.install(|| job.plan(&recipe(job, fit, fitted.step)?))?;
            job.tune(&plan, fit, &mut fitted)?;
            let (plan, size) = pack(job, fit, &fitted)?;
            return job.summary(&plan, Some(&fitted), size, out);
        }
    };
    let bytes = payloads(wanted, job.others(fit)?)?;
    let mut fitted = job.pool.install(|| fit.stepped(bytes, damping, &codec, &each))?;
    for round in 1.. {
        let (mut plan, mut size) = pack(job, fit, &fitted)?;
        let last = round == ROUNDS;
        if last || (-TOLERANCE..=0.0).contains(&((size as f64 - wanted) / wanted)) {
            let mut tuned = fitted.clone();
            if job.args.calibration.tune {
                job.tune(&plan, fit, &mut tuned)?;
                (plan, size) = pack(job, fit, &tuned)?;
            }
            // Other certificates may take a few bytes more in the manifest.
            if last || size as f64 <= wanted {
                return job.summary(&plan, Some(&tuned), size, out);
            }
        }
        // Now everything but the payloads is known.
        let bytes = payloads(wanted, size as f64 - fitted.compressed.bytes() as f64)?;
        fitted = job.pool.install(|| fit.resize(fitted, bytes, &codec))?;
        job.show(&fitted);
    }
    Ok(())
}

fn pack(job: &Job<'_>, fit: &Fit<'_>, fitted: &Fitted) -> Result<(checkpoint::Plan, u64)> {
    let mut recipe = recipe(job, fit, fitted.step)?;
    recipe.calibration = Some(job.identity(Some(fitted)));
    let plan = job.pool.install(|| job.plan(&recipe))?;
    let size = job.pack(&plan, &Ready(&fitted.compressed))?;
    Ok((plan, size))
}

fn spec(step: f64, axis: InputAxis) -> String {
    let order = if axis == InputAxis::Rows { "rows" } else { "columns" };
    format!("trellis.columns:states={STATES}:order={order}:step={step:e}")
}

/// `trellis.columns` for tensors with feedback.
fn recipe(job: &Job<'_>, fit: &Fit<'_>, step: f64) -> Result<Recipe> {
    let mut rules = Vec::new();
    for axis in [InputAxis::Rows, InputAxis::Columns] {
        let axis_of = |name: &str| fit.subject.statistics.tensors.get(name).map(|found| found.axis);
        let of_axis: Vec<&str> = fit.names.iter().copied().filter(|name| axis_of(name) == Some(axis)).collect();
        if !of_axis.is_empty() {
            rules.push(Rule::of_names(&pattern(&of_axis, &job.model)?, &spec(step, axis)));
        }
    }
    job.recipe_of(rules)
}
