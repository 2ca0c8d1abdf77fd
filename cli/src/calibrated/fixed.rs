//! Codecs of a recipe.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use calibrate::{Fit, Fitted};
use checkpoint::{Recipe, Rule};
use codec_api::{Codec, InputAxis};

use super::{Job, Ready, VECTORS};

/// Packs the model with the codecs of the recipe, whose calibration is named already.
pub(super) fn run(job: &Job<'_>, fit: &Fit<'_>, mut recipe: Recipe, out: &mut dyn Write) -> Result<()> {
    if job.args.calibration.tune {
        recipe.rules.push(Rule::for_vectors(VECTORS));
    }
    let plan = job.pool.install(|| job.plan(&recipe))?;
    job.check_target(&plan)?;
    let chosen = job.lossy(&plan, fit)?;
    let mut fitted = self::fit(job, fit, &chosen, job.args.calibration.damping)?;
    job.tune(&plan, fit, &mut fitted)?;
    recipe.calibration = Some(job.identity(Some(&fitted)));
    let plan = job.pool.install(|| job.plan(&recipe))?;
    let size = job.pack(&plan, &Ready(&fitted.compressed))?;
    job.summary(&plan, Some(&fitted), size, out)
}

/// Encodes tensors with these codecs, and the given damping or the one that suits them.
pub(super) fn fit(
    job: &Job<'_>,
    fit: &Fit<'_>,
    chosen: &BTreeMap<&str, Arc<dyn Codec>>,
    damping: Option<f64>,
) -> Result<Fitted> {
    let (mut bits, mut weights) = (0.0, 0.0);
    for (name, codec) in chosen {
        let spec = job.model.spec(name)?;
        let cost = codec.cost(spec);
        // An error of 2⁻ᵇ is that of b bits.
        let of_bytes = 8.0 * *cost.bytes.end() as f64 / spec.elements().max(1) as f64;
        bits += cost.expected_rel_rmse.map_or(of_bytes, |error| -libm::log2(error)) * spec.elements() as f64;
        weights += spec.elements() as f64;
    }
    let choice =
        |name: &str, _: InputAxis| -> calibrate::Result<Option<Arc<dyn Codec>>> { Ok(chosen.get(name).cloned()) };
    let bits = bits / f64::max(weights, 1.0);
    Ok(job.pool.install(|| fit.fixed(bits, damping, &choice, &|tried| job.show(tried)))?)
}
