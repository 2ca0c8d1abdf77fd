//! `netweight merge RECIPE -o OUT`: a model out of several.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use codec_api::{Cancel, Registry};
use merge::{Operation, Plan, PlanOptions, Recipe, RunOptions};

use crate::Outcome;
use crate::args::Cast;
use crate::options::parse_size;
use crate::packing::{Work, check_free};
use crate::text;

/// Merge models by a recipe
///
/// Reads a recipe of mergekit (YAML), or the same keys in TOML (*.toml), and writes a dense model
/// into a directory, its expressions, or a packed model. The recipe is checked as a whole before
/// anything is written. Models are directories or .safetensors files, dense or packed, on this
/// disk; PATH+ADAPTER is a model with a LoRA adapter. Values are computed in F32 and rounded once.
/// When an interrupted command is given again, it keeps the files that were finished.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// The recipe
    pub recipe: PathBuf,
    /// The directory of the merged model; a packed one may also be a file (*.nw.safetensors)
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Seed of random masks (dare_*, della*)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The dtype of the output, in place of the recipe's
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<Cast>,
    /// Check the recipe and print the plan; write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub options: Options,
}

/// How merges run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// About how much memory to use
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "512MB")]
    pub memory: u64,
    /// Write several files of at most this size and their index, if the model is larger: 5GB for a
    /// dense model without this option, and one file for a packed one
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_shard_size: Option<u64>,
    /// Write the expressions alone, which refer to the tensors of the models by path and hash: a
    /// small file that other commands read as a model
    #[cfg(feature = "runtime")]
    #[arg(long, conflicts_with_all = ["pack", "codec", "max_shard_size"])]
    pub lazy: bool,
    /// Pack the merged model by this recipe of `compress`, without writing it as a dense one
    #[cfg(feature = "runtime")]
    #[arg(long = "recipe", id = "pack", value_name = "NAME|FILE", conflicts_with = "codec")]
    pub pack: Option<String>,
    /// Pack the merged model: codec spec for the float tensors of two or more axes
    #[cfg(feature = "runtime")]
    #[arg(long, value_name = "SPEC")]
    pub codec: Option<String>,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
}

const HELP: &str = "\
Methods:
  linear, slerp, nuslerp, multislerp, karcher, task_arithmetic, ties, dare_ties,
  dare_linear, breadcrumbs, breadcrumbs_ties, della, della_linear, model_stock,
  sce, nearswap, passthrough

Example:
  models:
    - model: my-fine-tune
      parameters: {weight: 0.7, density: 0.5}
    - model: other-fine-tune
      parameters: {weight: [0.2, 0.8], density: 0.5}
  base_model: my-base
  merge_method: ties
  dtype: bfloat16

docs/merge.md describes recipes, and what differs from mergekit.";

/// Merges models.
///
/// # Errors
/// For a recipe that cannot be used, unreadable models, and a target that exists or cannot be
/// written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let recipe = Recipe::read(&args.recipe)?;
    let plan = Plan::new(recipe, PlanOptions { seed: args.seed, dtype: args.dtype.map(Into::into) }, registry)?;
    if args.dry_run {
        describe(&plan, &args.options, out)?;
        return Ok(Outcome::Clean);
    }
    write_model(&plan, &args.output, &args.options, registry, out)
}

/// Writes the model of a plan, and says what it is.
///
/// # Errors
/// As [`run`].
#[cfg_attr(not(feature = "runtime"), expect(unused_variables, reason = "only lazy results need codecs"))]
pub fn write_model(
    plan: &Plan,
    target: &Path,
    options: &Options,
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<Outcome> {
    #[cfg(feature = "runtime")]
    if options.lazy {
        return crate::lazy::write_graph(plan, target, options, registry, out);
    } else if options.pack.is_some() || options.codec.is_some() {
        return crate::lazy::write_packed(plan, target, options, registry, out);
    }
    if !merge::is_unfinished(plan, target) {
        check_free(target, options.force)?;
    }
    let (begin, cancel) = (Instant::now(), Cancel::new());
    let progress = options.work.progress("merge", plan.size());
    let mut how = RunOptions::new(&cancel, &progress);
    how.memory = options.memory;
    how.max_shard_size = options.max_shard_size.unwrap_or(how.max_shard_size);
    let ran = options.work.pool()?.install(|| merge::run(plan, target, &how))?;
    drop(progress);
    if options.work.quiet {
        return Ok(Outcome::Clean);
    }
    notes(plan, out)?;
    let (shown, files) = (text::path(target), text::count(ran.files, "file"));
    let kept = if ran.kept == 0 { String::new() } else { format!(", {} of them from before", ran.kept) };
    let (tensors, weights) = (text::count(plan.tensors().len(), "tensor"), plan.size().0);
    writeln!(out, "`{shown}`: {tensors}, {weights} weights, {} in {files}{kept}", text::size(ran.bytes))?;
    let time = begin.elapsed().as_secs_f64();
    let speed = (plan.input_bytes() + ran.bytes) as f64 / 1e6 / time.max(1e-3);
    writeln!(out, "it took {time:.1} s, {speed:.0} MB/s read and written")?;
    Ok(Outcome::Clean)
}

/// Prints what the recipe does not say.
///
/// # Errors
/// If the output cannot be written.
pub fn notes(plan: &Plan, out: &mut dyn Write) -> Result<()> {
    Ok(plan.notes().iter().try_for_each(|note| writeln!(out, "note: {}", text::printable(note)))?)
}

/// What a merge would do.
fn describe(plan: &Plan, options: &Options, out: &mut dyn Write) -> Result<()> {
    let (weights, bytes) = plan.size();
    let models: Vec<String> = plan.models().map(|model| format!("`{}`", text::printable(&model.to_string()))).collect();
    writeln!(out, "{} of {}", plan.method(), models.join(", "))?;
    let mut kinds: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for tensor in plan.tensors() {
        let how = match &tensor.operation {
            Operation::Merge { models, base, .. } => {
                let base = if base.is_some() { " and a base" } else { "" };
                format!("merged from {}{base}", text::count(models.len(), "model"))
            }
            Operation::Copy(_) => "copied, equal in all models".to_owned(),
        };
        let kind = kinds.entry(format!("{} {how}", tensor.spec.dtype())).or_default();
        *kind = (kind.0 + 1, kind.1 + tensor.spec.byte_len() as u64);
    }
    for (kind, (count, bytes)) in kinds {
        writeln!(out, "{}: {kind}, {}", text::count(count, "tensor"), text::size(bytes))?;
    }
    notes(plan, out)?;
    writeln!(out, "all: {weights} weights, {} from {}", text::size(bytes), text::size(plan.input_bytes()))?;
    writeln!(out, "at most about {} of memory; nothing was written", text::size(options.memory))?;
    Ok(())
}
