//! Codecs of a recipe.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Result, bail};
use calibrate::Fit;
use codec_api::{Codec, InputAxis};

use super::Job;

/// Packs the model with the codecs of the recipe.
pub(super) fn run(job: &Job<'_>, fit: &Fit<'_>, out: &mut dyn Write) -> Result<()> {
    let mut recipe = job.args.options.recipe()?;
    if let Some(rule) = recipe.rules.iter().find(|rule| rule.codec.starts_with("best")) {
        bail!("`{}` tries codecs without feedback; --calibration needs codecs by name", rule.codec);
    }
    let plan = job.pool.install(|| job.plan(&recipe))?;
    job.check_target(&plan)?;
    let codecs = plan.codecs(job.registry)?;
    let (mut bits, mut weights, mut chosen) = (0.0, 0.0, BTreeMap::new());
    for name in fit.names {
        let (Some(codec), spec) = (codecs.get(name), job.model.spec(name)?) else { continue };
        let cost = codec.cost(spec);
        if cost.expected_rel_rmse == Some(0.0) {
            // What is stored exactly stays as it is.
            continue;
        }
        // An error of 2⁻ᵇ is that of b bits.
        let of_bytes = 8.0 * *cost.bytes.end() as f64 / spec.elements().max(1) as f64;
        bits += cost.expected_rel_rmse.map_or(of_bytes, |error| -libm::log2(error)) * spec.elements() as f64;
        weights += spec.elements() as f64;
        chosen.insert(*name, Arc::clone(codec));
    }
    let choice =
        |name: &str, _: InputAxis| -> calibrate::Result<Option<Arc<dyn Codec>>> { Ok(chosen.get(name).cloned()) };
    let bits = bits / f64::max(weights, 1.0);
    let damping = job.args.calibration.damping;
    let fitted = job.pool.install(|| fit.fixed(bits, damping, &choice, &|tried| job.show(tried)))?;
    recipe.calibration = Some(job.identity(&fitted));
    let plan = job.pool.install(|| job.plan(&recipe))?;
    let size = job.pack(&plan, &fitted.compressed)?;
    job.summary(&plan, &fitted, size, out)
}
