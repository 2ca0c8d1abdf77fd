//! `netweight compress MODEL -o OUT`: packs a model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Error, Result, anyhow, bail};
use checkpoint::{Companions, PACKED_EXTENSION, Packed, Plan, Recipe, Rule};
use codec_api::Registry;

use crate::Outcome;
use crate::info::packed::Model;
use crate::packing::{Progress, check_free, pool};
use crate::text;

/// Compress a model
///
/// Every tensor is encoded by the codec that the recipe chooses, and a tensor that its codec
/// refuses is stored exactly. The result is one safetensors file, `*.nw.safetensors`. It is opened
/// and decoded before it gets its name. A run that was interrupted goes on where it was when the
/// same command is given again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// A .safetensors file, an index, or a model directory
    pub model: PathBuf,
    /// The packed file (*.nw.safetensors), or a directory for it; with a model directory, its other
    /// files are copied there
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    /// A built-in recipe or a recipe file; --help describes both
    #[arg(long, value_name = "NAME|FILE", default_value = "lossless", conflicts_with = "codec")]
    pub recipe: String,
    /// Codec spec for the float tensors of two or more axes; all others are stored exactly
    #[arg(long, value_name = "SPEC")]
    pub codec: Option<String>,
    /// Choose the smallest codec for each of these tensors with at most this ‖w − ŵ‖/‖w‖, measured;
    /// the same as --codec best:error=E
    #[arg(long, value_name = "E", conflicts_with_all = ["codec", "recipe"])]
    pub max_rel_error: Option<f64>,
    /// Choose the codec with the least error for each of these tensors that takes at most so many
    /// bits per weight; the same as --codec best:bits=B
    #[arg(long, value_name = "B", conflicts_with_all = ["codec", "recipe", "max_rel_error"])]
    pub target_bpw: Option<f64>,
    /// Codec spec for tensors with a name that matches; goes before the recipe, the first match
    /// counts
    #[arg(long = "rule", value_name = "REGEX=SPEC")]
    pub rules: Vec<String>,
    /// Store tensors relative to this model, dense or packed, where they are similar; a second
    /// --base is the base of a packed base
    #[arg(long = "base", value_name = "PATH")]
    pub bases: Vec<PathBuf>,
    /// Seed of codecs that use random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Number of threads; by default one for each core
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
    /// Leave out the check of the packed file
    #[arg(long)]
    pub no_verify: bool,
    /// Print which codecs would encode how much, and the sizes they allow; write nothing
    #[arg(long)]
    pub dry_run: bool,
}

const HELP: &str = "\
Recipes:
  lossless      every tensor exactly; `decompress` restores every file byte for
                byte
  int8          8 bits per weight, a scale per row
  q4            4 bits per weight, scale and zero point for 128 weights
  trellis-4bit, trellis-3bit
                entropy-coded trellis quantisation: slower, smaller error
  seedlm-4bit   seeds of a shift register
  progressive   quality levels of 2, 3 and 4 bits per weight: the first bytes of
                the file are a coarse model; `info` shows how many
  All but the first encode float tensors of two or more axes (linear layers,
  embeddings) and store the rest exactly, such as norms and biases.

Recipe files are TOML, or JSON with the same keys (*.json):
  default = \"lossless\"                for tensors without a rule
  exclude = ['lm_head']               names of tensors to store exactly
  [[rule]]                            the first rule that matches counts
  name = 'mlp\\.(up|down)'             regular expression
  min_rank = 2                        also max_rank, min_weights, max_weights
  dtype = [\"F32\", \"BF16\"]
  codec = \"quant.int:bits=4:group=64\"

Chosen by trial:
  `best:error=0.01` as a codec, here, in rules and in recipe files, tries several
  codecs on each tensor and takes the smallest whose measured ‖w − ŵ‖/‖w‖ is at
  most .01; `best:bits=3` takes the one with the least error of those with at
  most 3 bits per weight. `candidates = [...]` in a recipe file lists the codecs
  to try. `info` shows what was tried.

Examples:
  netweight compress my-model -o packed
      without loss, and the configuration and tokenizer copied
  netweight compress my-model -o packed --recipe int8 --rule lm_head=lossless
      8 bits, the head exactly
  netweight compress model.safetensors -o m.nw.safetensors --codec quant.q4_k
      one codec for all matrices
  netweight compress fine-tune -o patch.nw.safetensors --base my-model
      only the exact differences; `netweight apply my-model
      patch.nw.safetensors -o fine-tune` gives the fine-tune back";

/// Packs the model and prints what was saved and lost.
///
/// # Errors
/// For wrong arguments, an unreadable model, or a target that exists or cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let recipe = recipe(args)?;
    let nowhere = PathBuf::from(format!("model{PACKED_EXTENSION}"));
    let target = args.output.as_ref().unwrap_or(&nowhere);
    let pool = pool(args.jobs)?;
    let plan = pool.install(|| Plan::relative(&args.model, target, &args.bases, &recipe, args.seed, registry))?;
    if args.dry_run {
        estimate(&plan, registry, out)?;
        return Ok(Outcome::Clean);
    }
    let directory = (plan.target().parent() == std::path::absolute(target).ok().as_deref()).then_some(target);
    // What an interrupted run has left is not in the way.
    if let Some(directory) = directory.filter(|_| !plan.parts().exists()) {
        check_free(directory, args.force)?;
    }
    check_free(plan.target(), args.force)?;
    let begin = Instant::now();
    let companions = directory
        .filter(|_| args.model.is_dir())
        .map(|directory| Companions::find(plan.source_directory(), directory, &plan.source_files()))
        .transpose()?;
    let progress = Progress::new(plan.weights());
    let packed = pool.install(|| {
        plan.run(registry, &progress)?;
        // The commit comes last: a packed file in the directory says that it is complete.
        companions.map_or(Ok(()), |companions| companions.copy())?;
        plan.commit(registry, !args.no_verify)
    });
    drop(progress);
    packed.map_err(|error| with_parts(error, &plan))?;
    summarise(args, &plan, target, registry, out)?;
    writeln!(out, "it took {:.1} s", begin.elapsed().as_secs_f64())?;
    Ok(Outcome::Clean)
}

/// The error, and where the finished parts are.
fn with_parts(error: checkpoint::Error, plan: &Plan) -> Error {
    if !plan.parts().exists() {
        return error.into();
    }
    anyhow!("{error}; finished parts are in `{}`, and the same command goes on with them", plan.parts().display())
}

/// The recipe of the arguments.
fn recipe(args: &Args) -> Result<Recipe> {
    let error = args.max_rel_error.map(|error| format!("best:error={error}"));
    let codec = args.codec.clone().or(error).or(args.target_bpw.map(|bits| format!("best:bits={bits}")));
    let mut recipe = match &codec {
        Some(codec) => Recipe::for_matrices(codec),
        None => Recipe::load(&args.recipe)?,
    };
    let mut rules = Vec::new();
    for rule in &args.rules {
        match rule.split_once('=') {
            Some((pattern, codec)) if !pattern.is_empty() => rules.push(Rule::of_names(pattern, codec)),
            _ => bail!("`--rule {rule}` is not REGEX=SPEC, such as `--rule lm_head=lossless`"),
        }
    }
    recipe.rules.splice(0..0, rules);
    Ok(recipe)
}

fn estimate(plan: &Plan, registry: &Registry, out: &mut dyn Write) -> Result<()> {
    let (mut dense, mut most) = (0u64, 0u64);
    for share in plan.estimate(registry)? {
        let (tensors, spec) = (text::count(share.tensors, "tensor"), registry.spec_of(&*share.codec));
        let (least_size, most_size) = (text::size(*share.bytes.start()), text::size(*share.bytes.end()));
        let sizes = if least_size == most_size { most_size } else { format!("at most {most_size}") };
        writeln!(out, "{}: {tensors}, {} to {sizes}", text::printable(&spec), text::size(share.dense_bytes))?;
        dense += share.dense_bytes;
        most = most.saturating_add(*share.bytes.end());
    }
    writeln!(out, "all: {} to at most {}; nothing was written", text::size(dense), text::size(most))?;
    Ok(())
}

fn summarise(args: &Args, plan: &Plan, target: &Path, registry: &Registry, out: &mut dyn Write) -> Result<()> {
    let packed = Packed::open(plan.target(), registry)?.with_bases(&args.bases, registry)?;
    let model = Model::read(&packed, registry)?;
    writeln!(out, "{}", model.totals())?;
    let shown = text::printable(&target.display().to_string());
    let checked = if args.no_verify { "not checked yet" } else { "checked: it decodes to what it states" };
    let option = |base: &PathBuf| format!(" --base {}", text::printable(&base.display().to_string()));
    let base = args.bases.iter().map(option).collect::<Vec<_>>().concat();
    writeln!(out, "{checked}; `netweight verify {shown}{base}` checks it (again)")?;
    writeln!(out, "`netweight decompress {shown}{base} -o OUT` writes the dense model")?;
    Ok(())
}
