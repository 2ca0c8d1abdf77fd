//! Codecs of a recipe that are told how much each input counts, without feedback; if the recipe
//! says so, channels are scaled before.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Result, bail};
use calibrate::{Fit, Scaled, Statistics, scaled};
use checkpoint::{Method, Recipe, Rule, TensorEncoder};
use codec_api::util::narrowed;
use codec_api::{Calibration, Codec, EncodeCx, EncodedTensor, InputAxis, Payload, TensorView};

use super::{Job, pattern};

/// Packs the model with the codecs of the recipe, whose calibration is named already.
pub(super) fn run(job: &Job<'_>, fit: &Fit<'_>, mut recipe: Recipe, out: &mut dyn Write) -> Result<()> {
    if job.args.calibration.damping.is_some() {
        bail!("the recipe has no feedback, which --damping is for; leave it out");
    }
    let plan = job.pool.install(|| job.plan(&recipe))?;
    job.check_target(&plan)?;
    recipe.rules.splice(0..0, turned(job, &job.lossy(&plan, fit)?)?);
    recipe.calibration = Some(job.identity(None));
    let plan = job.pool.install(|| job.plan(&recipe))?;
    let codecs = job.lossy(&plan, fit)?;
    let scaled = match recipe.method {
        Some(Method::Scaling) => {
            let codec = |name: &str, _: InputAxis| Ok(codecs.get(name).cloned());
            job.pool.install(|| scaled(fit.subject, &codec))?
        }
        _ => Scaled::default(),
    };
    let size = job.pack(&plan, &Weighted { statistics: fit.subject.statistics, codecs: &codecs, scaled: &scaled })?;
    job.summary(&plan, None, size, out)
}

/// Rules that turn the matrices whose rows are inputs, so that groups and blocks run along inputs.
fn turned(job: &Job<'_>, codecs: &BTreeMap<&str, Arc<dyn Codec>>) -> Result<Vec<Rule>> {
    let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, codec) in codecs {
        if job.statistics.tensors.get(*name).is_some_and(|found| found.axis == InputAxis::Rows) {
            names.entry(job.registry.spec_of(&**codec)).or_default().push(name);
        }
    }
    let rule = |(spec, names): (&String, &Vec<&str>)| {
        Ok(Rule::of_names(&pattern(names, &job.model)?, &format!("transpose({spec})")))
    };
    names.iter().filter(|(spec, _)| !spec.starts_with("transpose(")).map(rule).collect()
}

/// Encodes tensors with the mean squares of their inputs.
struct Weighted<'a> {
    statistics: &'a Statistics,
    codecs: &'a BTreeMap<&'a str, Arc<dyn Codec>>,
    scaled: &'a Scaled,
}

impl TensorEncoder for Weighted<'_> {
    fn encode(
        &self,
        name: &str,
        codec: &dyn Codec,
        tensor: &TensorView<'_>,
        cx: &EncodeCx<'_>,
    ) -> Option<codec_api::Result<Payload>> {
        let found = self.statistics.tensors.get(name).filter(|_| self.codecs.contains_key(name));
        let scaled = self.scaled.tensors.get(name);
        if found.is_none() && scaled.is_none() {
            return None;
        }
        let encode = |tensor: TensorView<'_>| {
            let squares = self.scaled.mean_squares.get(name).cloned();
            let calibration = found.map(|found| (found.axis, squares.unwrap_or_else(|| found.inputs.diagonal())));
            let mut cx = cx.clone();
            cx.calibration = calibration.as_ref().map(|(axis, squares)| Calibration::new(*axis, squares));
            EncodedTensor::encode_payload(codec, tensor, &cx)
        };
        let Some(values) = scaled else { return Some(encode(tensor.clone())) };
        let bytes = narrowed(tensor.spec().dtype(), values);
        Some(bytes.and_then(|bytes| encode(TensorView::new(tensor.spec().clone(), &bytes)?)))
    }
}
