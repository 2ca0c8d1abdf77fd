//! `netweight compress --calibration`: feedback of errors over any codec, and one step for the
//! whole model.

mod allocated;
mod fixed;
mod stepped;
mod weighted;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use calibrate::{Compressed, Fit, Fitted, Statistics, Subject, Tuning};
use checkpoint::{Checkpoint, Hash, Method, Model, Plan, Recipe, Rule, TensorEncoder};
use codec_api::{Codec, EncodeCx, Payload, Registry, TensorView};
use rayon::ThreadPool;
use regex::Regex;
use runtime::Differentiable;

use crate::compress::{Args, pack};
use crate::options::{check_target, parse_size};
use crate::{Outcome, console, summary};

/// Options of a compression with calibration.
#[derive(Debug, clap::Args)]
pub struct CalibrationOptions {
    /// Statistics of the model, from `netweight calibrate`: errors are fed forward through each
    /// matrix, and layers make up for those of earlier ones. The codecs are those of the recipe;
    /// with --target-bpw, --target-size, --target-kl, or the recipes trellis-2bit, trellis-3bit and
    /// trellis-4bit, matrices are `trellis.columns` with one step for all, and sizes are those of
    /// the whole file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["max_rel_error", "bases", "max_shard_size", "dry_run"])]
    pub calibration: Option<PathBuf>,
    /// Damping of the statistics, a part of their mean; by default the best of some on the
    /// sequences that `netweight calibrate` has held out
    #[arg(long, value_name = "D", requires = "calibration")]
    pub damping: Option<f64>,
    /// The file has at most this size: 5GB, 500MB, 100kB, or a number of bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "calibration",
        conflicts_with_all = ["codec", "recipe", "target_bpw"])]
    pub target_size: Option<u64>,
    /// The smallest file with at most this KL divergence, in nats per token, on the sequences that
    /// `netweight calibrate` has held out
    #[arg(long, value_name = "KL", requires = "calibration",
        conflicts_with_all = ["codec", "recipe", "target_bpw", "target_size"])]
    pub target_kl: Option<f64>,
    /// Codecs, separated by commas: each matrix has the one with which all together meet
    /// --target-bpw or --target-size at the least expected rise of the loss
    #[arg(long, value_name = "SPEC,SPEC", requires = "calibration",
        conflicts_with_all = ["codec", "recipe", "target_kl"])]
    pub candidates: Option<String>,
    /// Tune norms and biases after that, so that predictions come nearer to those of the dense
    /// model; the held-out sequences tell whether it helps. Vectors are stored in f16
    #[arg(long, requires = "calibration", conflicts_with = "candidates")]
    pub tune: bool,
}

/// The codec of vectors, if a size is to be met.
const VECTORS: &str = "quant.cast:to=f16";

/// The codec of vectors that may be tuned.
const CAST: &str = "quant.cast";

/// Approximate bytes of a tensor in the header and the manifest, before they are known.
const ENTRY: f64 = 270.0;

/// Recipes whose rate is that of the whole file.
const RECIPES: [(&str, f64); 3] = [("trellis-2bit", 2.0), ("trellis-3bit", 3.0), ("trellis-4bit", 4.0)];

/// A compression.
struct Job<'a> {
    args: &'a Args,
    target: &'a Path,
    model: Checkpoint,
    statistics: Statistics,
    /// Hash of the statistics.
    hash: Hash,
    pool: &'a ThreadPool,
    registry: &'a Registry,
    begin: Instant,
}

/// Gives tensors the payloads that are made already.
struct Ready<'a>(&'a Compressed);

impl TensorEncoder for Ready<'_> {
    fn encode(
        &self,
        name: &str,
        _: &dyn Codec,
        _: &TensorView<'_>,
        _: &EncodeCx<'_>,
    ) -> Option<codec_api::Result<Payload>> {
        self.0.payloads.get(name).cloned().map(Ok)
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
    let (begin, goal) = (Instant::now(), goal(args)?);
    let target = args.output.as_deref().context("an output is needed")?;
    let model = Checkpoint::open(&args.options.model)?;
    model.require_stored()?;
    let found = Statistics::open(statistics)?;
    if found.about.model != Hash(model.hash()?).to_string() {
        let (model, statistics) = (args.options.model.display(), statistics.display());
        bail!("`{statistics}` has the statistics of another model than `{model}`; `netweight calibrate` makes them");
    }
    let hash = Hash(Checkpoint::open(statistics)?.hash()?);
    let job = Job { args, target, model, statistics: found, hash, pool, registry, begin };
    let names = job.names()?;
    let runnable = Differentiable::open(&Model::open(&args.options.model, &[], registry)?)?;
    let (source, model, statistics) = (&job.model, &runnable, &job.statistics);
    let subject = Subject { source, model, statistics, seed: args.options.seed };
    let fit = Fit { subject, names: &names };
    if let Some(goal) = goal {
        match &args.calibration.candidates {
            Some(list) => allocated::run(&job, &fit, goal, list, out)?,
            None => stepped::run(&job, &fit, goal, out)?,
        }
        return Ok(Outcome::Clean);
    }
    let recipe = job.recipe()?;
    match recipe.method {
        None | Some(Method::Feedback) => fixed::run(&job, &fit, recipe, out)?,
        Some(_) => weighted::run(&job, &fit, recipe, out)?,
    }
    Ok(Outcome::Clean)
}

/// What a compression is to meet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    /// Bits of the file for each weight.
    Bits(f64),
    /// Bytes of the file.
    Bytes(f64),
    /// KL divergence on the held-out sequences.
    Divergence(f64),
}

/// The goal; `None` for the codecs of a recipe.
fn goal(args: &Args) -> Result<Option<Goal>> {
    let (options, calibration) = (&args.options, &args.calibration);
    if let Some(kl) = calibration.target_kl {
        if !(1e-9..=10.0).contains(&kl) {
            bail!("--target-kl {kl} is not from 1e-9 to 10");
        }
        return Ok(Some(Goal::Divergence(kl)));
    }
    if let Some(bytes) = calibration.target_size {
        return Ok(Some(Goal::Bytes(bytes as f64)));
    }
    if let Some(bits) = options.target_bpw {
        return Ok(Some(Goal::Bits(bits)));
    }
    if options.codec.is_none() && options.recipe == "lossless" {
        bail!("--calibration needs --target-bpw, --target-size, --target-kl, --recipe or --codec");
    }
    let known = RECIPES.iter().find(|(name, _)| options.codec.is_none() && *name == options.recipe);
    Ok(known.map(|(_, bits)| Goal::Bits(*bits)))
}

impl Job<'_> {
    /// The tensors that are encoded with feedback: those with statistics that no option takes out.
    fn names(&self) -> Result<Vec<&str>> {
        let options = &self.args.options;
        let rules = options.rules.iter().filter_map(|rule| rule.split_once('='));
        let mut out = rules.map(|(pattern, _)| Regex::new(pattern)).collect::<Result<Vec<_>, _>>()?;
        out.extend(options.exclude.iter().cloned());
        let mut names = Vec::new();
        for name in self.statistics.tensors.keys() {
            self.model.spec(name)?;
            let included = options.include.is_empty() || options.include.iter().any(|pattern| pattern.is_match(name));
            if included && !out.iter().any(|pattern| pattern.is_match(name)) {
                names.push(&**name);
            }
        }
        Ok(names)
    }

    /// The recipe, with the hash of the statistics.
    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = self.args.options.recipe()?;
        if let Some(rule) = recipe.rules.iter().find(|rule| rule.codec.starts_with("best")) {
            bail!("`{}` tries codecs without feedback; --calibration needs codecs by name", rule.codec);
        }
        recipe.calibration = Some(self.hash.to_string());
        Ok(recipe)
    }

    /// A recipe with these rules; for other matrices, which have no statistics, integers of 8 bits.
    fn recipe_of(&self, rules: Vec<Rule>) -> Result<Recipe> {
        let options = &self.args.options;
        let mut recipe = Recipe::for_matrices("quant.int:preset=int8");
        recipe.rules.splice(0..0, options.rules_of_names()?.into_iter().chain(rules));
        recipe.rules.push(Rule::for_vectors(VECTORS));
        let texts = |patterns: &[Regex]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        (recipe.include, recipe.exclude) = (texts(&options.include), texts(&options.exclude));
        Ok(recipe)
    }

    /// An estimate of the bytes of everything but the payloads of tensors with feedback.
    fn others(&self, fit: &Fit<'_>) -> Result<f64> {
        let mut bytes = 0.0;
        for name in self.model.names() {
            let own = if fit.names.contains(&name) { 0.0 } else { 2.0 * self.model.spec(name)?.elements() as f64 };
            bytes += ENTRY + own;
        }
        Ok(bytes)
    }

    /// A name of what the payloads depend on besides the plan: the statistics, the settings of
    /// feedback if there is any, and the program.
    fn identity(&self, fitted: Option<&Fitted>) -> String {
        let tuned = if self.args.calibration.tune { "tuned " } else { "" };
        let settings = fitted.map_or_else(String::new, |fitted| format!("{} {} {tuned}", fitted.damping, fitted.step));
        Hash::of(format!("{} {settings}{}", self.hash, env!("CARGO_PKG_VERSION")).as_bytes()).to_string()
    }

    /// Plans the file.
    fn plan(&self, recipe: &Recipe) -> Result<Plan> {
        let Self { args, target, registry, .. } = self;
        Ok(Plan::new(&args.options.model, target, recipe, args.options.seed, registry)?)
    }

    /// Refuses a target that exists.
    fn check_target(&self, plan: &Plan) -> Result<()> {
        check_target(plan, self.target, self.args.force)
    }

    /// The codecs of the tensors to encode; what is stored exactly stays as it is.
    fn lossy<'b>(&self, plan: &Plan, fit: &Fit<'b>) -> Result<BTreeMap<&'b str, Arc<dyn Codec>>> {
        let (codecs, mut chosen) = (plan.codecs(self.registry)?, BTreeMap::new());
        for name in fit.names {
            let Some(codec) = codecs.get(name) else { continue };
            if codec.cost(self.model.spec(name)?).expected_rel_rmse != Some(0.0) {
                chosen.insert(*name, Arc::clone(codec));
            }
        }
        Ok(chosen)
    }

    /// Writes the file, and returns its bytes.
    fn pack(&self, plan: &Plan, by: &dyn TensorEncoder) -> Result<u64> {
        pack(&self.args.work, !self.args.no_verify, plan, Some(by), self.pool, self.registry)?;
        Ok(fs::metadata(plan.written())?.len())
    }

    /// Tunes the vectors that are cast, if this is wanted.
    fn tune(&self, plan: &Plan, fit: &Fit<'_>, fitted: &mut Fitted) -> Result<()> {
        if !self.args.calibration.tune {
            return Ok(());
        }
        let codecs = plan
            .codecs(self.registry)?
            .into_iter()
            .filter(|(name, codec)| fitted.compressed.payloads.contains_key(*name) || codec.typetag_name() == CAST);
        let codecs = codecs.map(|(name, codec)| (name.to_owned(), codec)).collect();
        let tuning = Tuning { subject: fit.subject, codecs: &codecs };
        let each = |steps: usize, kl: f64| {
            if !self.args.work.quiet {
                console::line(&format!("vectors after {steps} steps: KL divergence {kl:.3e}"));
            }
        };
        Ok(self.pool.install(|| tuning.run(&mut fitted.compressed, &each))?)
    }

    /// Says what was tried.
    fn show(&self, fitted: &Fitted) {
        if self.args.work.quiet {
            return;
        }
        let Fitted { damping, step, compressed, .. } = fitted;
        let step = if *step > 0.0 { format!(", step {step:.4e}") } else { String::new() };
        let kl = compressed.divergence.map_or_else(String::new, |kl| format!(", KL divergence {kl:.3e}"));
        console::line(&format!("damping {damping:.4}{step}: {} bytes of matrices{kl}", compressed.bytes()));
    }

    /// Says what was saved and lost.
    fn summary(&self, plan: &Plan, fitted: Option<&Fitted>, size: u64, out: &mut dyn Write) -> Result<()> {
        let args = self.args;
        if args.work.quiet {
            return Ok(());
        }
        let paths = [&*args.options.model, self.target];
        summary::print(plan, paths, &[], !args.no_verify, self.begin.elapsed(), self.registry, out)?;
        let weights = self.model.weights();
        writeln!(out, "the file has {:.4} bits for each of {weights} weights", 8.0 * size as f64 / weights as f64)?;
        let measured = fitted.and_then(|fitted| Some((fitted.damping, fitted.compressed.divergence?)));
        if let Some((damping, kl)) = measured {
            let tokens: usize = self.statistics.held_out.iter().map(Vec::len).sum();
            writeln!(out, "damping {damping:.4}; KL divergence {kl:.3e} on {tokens} held-out tokens")?;
        }
        Ok(())
    }
}

/// The bytes of a file that are left for payloads.
fn payloads(wanted: f64, others: f64) -> Result<f64> {
    if wanted > others {
        return Ok(wanted - others);
    }
    bail!("{wanted:.0} bytes are too few: tensors without feedback and the manifest take about {others:.0}");
}

/// A regular expression for these tensors and no others of the model: short, with any number in
/// place of that of a layer, if this is possible.
fn pattern(names: &[&str], model: &Checkpoint) -> Result<String> {
    let number = Regex::new(r"\d+")?;
    let general = |name: &str| number.replace_all(&regex::escape(name), r"\d+").into_owned();
    let forms: BTreeSet<String> = names.iter().map(|name| general(name)).collect();
    let whole = |forms: Vec<String>| format!("^({})$", forms.join("|"));
    let short = whole(forms.into_iter().collect());
    let found = Regex::new(&short)?;
    if model.names().filter(|name| found.is_match(name)).count() == names.len() {
        return Ok(short);
    }
    Ok(whole(names.iter().map(|name| regex::escape(name)).collect()))
}
