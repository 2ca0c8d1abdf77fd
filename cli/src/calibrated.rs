//! `netweight compress --calibration`: feedback of errors, and one step for the whole model.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use calibrate::{Calibrated, Statistics, StepSearch, damping};
use checkpoint::{Checkpoint, Hash, Plan, Recipe, Rule, TensorEncoder};
use codec_api::{Codec, CodecError, EncodeCx, InputAxis, Payload, Progress, Registry, TensorView};
use rayon::ThreadPool;
use regex::Regex;

use crate::compress::{Args, with_parts};
use crate::options::check_target;
use crate::{Outcome, console, steps, summary};

/// Recipes whose rate is that of the whole file.
const RECIPES: [(&str, f64); 3] = [("trellis-2bit", 2.0), ("trellis-3bit", 3.0), ("trellis-4bit", 4.0)];

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

/// Encodes tensors with feedback.
struct Feeder<'a>(&'a Calibrated);

impl TensorEncoder for Feeder<'_> {
    fn encode(
        &self,
        name: &str,
        codec: &dyn Codec,
        tensor: &TensorView<'_>,
        cx: &EncodeCx<'_>,
    ) -> Option<codec_api::Result<Payload>> {
        codec.as_panels()?;
        let fed = self.0.encode(name, codec, tensor, cx)?;
        Some(fed.map(|fed| fed.payload).map_err(|error| match error {
            calibrate::Error::Codec(error) => error,
            error => CodecError::codec(error),
        }))
    }
}

/// Packs the model with feedback, and prints what was saved and lost.
///
/// # Errors
/// For wrong arguments, statistics of another model, and as `compress`.
pub fn run(
    args: &Args,
    statistics: &Path,
    pool: &ThreadPool,
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<Outcome> {
    let begin = Instant::now();
    let bits = bits(args)?;
    let target = args.output.as_deref().context("an output is needed")?;
    let model = Checkpoint::open(&args.options.model)?;
    let found = Statistics::open(statistics)?;
    if found.about.model != Hash(model.hash()?).to_string() {
        let (model, statistics) = (args.options.model.display(), statistics.display());
        bail!("`{statistics}` has the statistics of another model than `{model}`; `netweight calibrate` makes them");
    }
    let damping = args.damping.unwrap_or_else(|| damping(bits));
    let calibrated = pool.install(|| Calibrated::new(&found, damping))?;
    drop(found);
    let names = names(args, &model, &calibrated)?;
    let search = StepSearch { model: &model, calibrated: &calibrated, names: &names, seed: args.options.seed };
    let hash = Hash::of(&fs::read(statistics).with_context(|| format!("cannot read `{}`", statistics.display()))?);
    let identity = Hash::of(format!("{hash} {damping}").as_bytes()).to_string();
    let codec = |step: f64, axis: InputAxis| -> calibrate::Result<Arc<dyn Codec>> {
        let codec = registry.parse_spec(&spec(step, axis));
        codec.map_err(|error| calibrate::Error::Codec(CodecError::codec(error)))
    };
    let weights = model.names().map(|name| Ok(model.spec(name)?.elements())).sum::<Result<usize>>()?;
    let wanted = bits * weights as f64 / 8.0;
    let (mut others, mut first) = (others(&model, &names)?, None);
    for round in 1.. {
        if wanted <= others {
            bail!("{wanted:.0} bytes are too few: tensors without feedback and the manifest take about {others:.0}");
        }
        let step = pool.install(|| search.run(wanted - others, first, &codec))?;
        if !args.work.quiet {
            console::line(&format!("step {step:.4e}, damping {damping:.3}"));
        }
        let recipe = recipe(args, &calibrated, &names, (step, bits), &identity)?;
        let plan = Plan::new(&args.options.model, target, &recipe, args.options.seed, registry)?;
        check_target(&plan, target, args.force || round > 1)?;
        pack(args, &plan, &calibrated, pool, registry)?;
        let size = fs::metadata(plan.written())?.len() as f64;
        let miss = (size - wanted) / wanted;
        if (-TOLERANCE..=0.0).contains(&miss) || round == ROUNDS {
            if !args.work.quiet {
                let paths = [&*args.options.model, target];
                summary::print(&plan, paths, &[], !args.no_verify, begin.elapsed(), registry, out)?;
                writeln!(out, "the file has {:.4} bits for each of {weights} weights", 8.0 * size / weights as f64)?;
            }
            break;
        }
        (others, first) = (others + size - wanted + 0.3 * TOLERANCE * wanted, Some(step));
    }
    Ok(Outcome::Clean)
}

/// The bits per weight of the whole file.
fn bits(args: &Args) -> Result<f64> {
    if let Some(bits) = args.options.target_bpw {
        return Ok(bits);
    }
    let known = RECIPES.iter().find(|(name, _)| *name == args.options.recipe);
    known.map(|(_, bits)| *bits).with_context(|| {
        let names = RECIPES.map(|(name, _)| name).join(", ");
        format!("--calibration needs --target-bpw, or one of the recipes {names}")
    })
}

fn spec(step: f64, axis: InputAxis) -> String {
    let order = if axis == InputAxis::Rows { "rows" } else { "columns" };
    format!("trellis.columns:states={STATES}:order={order}:step={step:e}")
}

/// The tensors that are encoded with feedback: those with statistics that no option takes out.
fn names<'a>(args: &Args, model: &Checkpoint, calibrated: &'a Calibrated) -> Result<Vec<&'a str>> {
    let options = &args.options;
    let patterns = options.rules.iter().filter_map(|rule| rule.split_once('=')).map(|(pattern, _)| Regex::new(pattern));
    let mut out = patterns.collect::<Result<Vec<_>, _>>()?;
    out.extend(options.exclude.iter().cloned());
    let mut names = Vec::new();
    for (name, _) in calibrated.tensors() {
        model.spec(name)?;
        let included = options.include.is_empty() || options.include.iter().any(|pattern| pattern.is_match(name));
        if included && !out.iter().any(|pattern| pattern.is_match(name)) {
            names.push(name);
        }
    }
    Ok(names)
}

/// An estimate of the bytes of everything but the payloads of these tensors.
fn others(model: &Checkpoint, names: &[&str]) -> Result<f64> {
    let mut bytes = 0.0;
    for name in model.names() {
        bytes += ENTRY + if names.contains(&name) { 0.0 } else { 2.0 * model.spec(name)?.elements() as f64 };
    }
    Ok(bytes)
}

fn recipe(
    args: &Args,
    calibrated: &Calibrated,
    names: &[&str],
    (step, bits): (f64, f64),
    identity: &str,
) -> Result<Recipe> {
    let mut recipe = Recipe::for_matrices(&format!("trellis:states=8:bits={bits}"));
    for axis in [InputAxis::Columns, InputAxis::Rows] {
        let of_axis = names.iter().filter(|name| calibrated.axis(name) == Some(axis));
        let escaped: Vec<String> = of_axis.map(|name| regex::escape(name)).collect();
        if !escaped.is_empty() {
            let pattern = format!("^({})$", escaped.join("|"));
            recipe.rules.insert(0, Rule::of_names(&pattern, &spec(step, axis)));
        }
    }
    recipe.rules.push(Rule::for_vectors(VECTORS));
    let own = args.options.rules_of_names()?;
    recipe.rules.splice(0..0, own);
    let texts = |patterns: &[Regex]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect::<Vec<_>>();
    recipe.include = texts(&args.options.include);
    recipe.exclude = texts(&args.options.exclude);
    recipe.calibration = Some(identity.to_owned());
    Ok(recipe)
}

fn pack(args: &Args, plan: &Plan, calibrated: &Calibrated, pool: &ThreadPool, registry: &Registry) -> Result<()> {
    let size = plan.size(&steps::all(plan));
    let packed = pool.install(|| {
        plan.run_with(&Feeder(calibrated), registry, &args.work.progress("encode", size))?;
        let check = (!args.no_verify).then(|| args.work.progress("check", size));
        plan.commit(registry, check.as_ref().map(|check| check as &dyn Progress))
    });
    packed.map_err(|error| with_parts(error, plan))
}
