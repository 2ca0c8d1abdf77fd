//! `netweight lora`: adapters merged into a model, taken out again, and extracted from a fine-tune.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use checkpoint::Model;
use codec_api::{Cancel, Dtype, Registry};
use merge::lora::{Extract as How, extract};
use merge::{Plan, PlanOptions, Recipe, differing};

use crate::Outcome;
use crate::args::Cast;
use crate::merge::{Options, write_model};
use crate::packing::{Work, check_free};
use crate::text;

/// Merge a LoRA adapter into its model, take it out again, or extract one
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Merge(Merge),
    Unmerge(Unmerge),
    Extract(Extract),
}

/// Merge a LoRA adapter (PEFT or kohya) into its model
///
/// Computes W + scale·B·A in F32, and rounds once. DoRA, rsLoRA, rank and alpha patterns,
/// embeddings, saved modules and biases are merged too; what changes the result in another way is
/// refused by name.
#[derive(Debug, clap::Args)]
struct Merge {
    /// The model, dense or packed
    model: PathBuf,
    /// The directory of an adapter of PEFT, or a .safetensors file of kohya's scripts
    adapter: PathBuf,
    /// The directory of the merged model
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The dtype of the output, in place of the model's
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<Cast>,
    #[command(flatten)]
    options: Options,
}

/// Take an adapter out of a model that it was merged into
///
/// With --base, the model before: checks bit by bit that the base with the adapter is the model,
/// names the tensors that are not, and writes the base only if all are. Without it, computes
/// W - scale·B·A, and says how far the roundings may lead away from the model before.
#[derive(Debug, clap::Args)]
struct Unmerge {
    /// The model with the adapter, dense or packed
    model: PathBuf,
    /// The adapter
    adapter: PathBuf,
    /// The model before the merge, dense or packed
    #[arg(long, value_name = "BASE")]
    base: Option<PathBuf>,
    /// The directory of the model without the adapter
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    options: Options,
}

/// Extract an adapter out of the difference of two models
///
/// Decomposes the difference of each matrix, and keeps the largest components. Other tensors that
/// differ are stored as wholes, among the modules to save.
#[derive(Debug, clap::Args)]
struct Extract {
    /// The model before fine-tuning
    base: PathBuf,
    /// The fine-tune
    model: PathBuf,
    /// The directory of the adapter
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Most components of a matrix
    #[arg(long, value_name = "N", default_value_t = 128)]
    rank: usize,
    /// Leave out components with a smaller singular value
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    epsilon: f64,
    /// Embeddings as low-rank differences too
    #[arg(long)]
    embeddings: bool,
    #[command(flatten)]
    work: Work,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// Merges, unmerges or extracts.
///
/// # Errors
/// For adapters and models that do not fit each other, unreadable files, and a target that exists
/// or cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    match &args.command {
        Command::Merge(args) => merge_adapter(args, registry, out),
        Command::Unmerge(args) => unmerge(args, registry, out),
        Command::Extract(args) => extract_adapter(args, registry, out),
    }
}

fn merge_adapter(args: &Merge, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let recipe = Recipe::of_adapter(&args.model, &args.adapter);
    let plan = Plan::new(recipe, PlanOptions { seed: 0, dtype: args.dtype.map(Into::into) }, registry)?;
    write_model(&plan, &args.output, &args.options, registry, out)
}

fn unmerge(args: &Unmerge, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    if let Some(base) = &args.base {
        return restore(args, base, registry, out);
    }
    let plan = Plan::without_adapter(&args.model, &args.adapter, registry)?;
    let outcome = write_model(&plan, &args.output, &args.options, registry, out)?;
    if !args.options.work.quiet {
        let dtypes: BTreeSet<&str> = plan.tensors().iter().filter_map(|tensor| unit(tensor.spec.dtype())).collect();
        for dtype in dtypes {
            writeln!(out, "{dtype}·(|W| + |W - s·B·A|) is about the most that a value differs from the one before")?;
        }
        writeln!(out, "`--base` gives the model before, bit for bit")?;
    }
    Ok(outcome)
}

/// The largest relative error of a rounding.
fn unit(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::BF16 => Some("in BF16, 2⁻⁸"),
        Dtype::F16 => Some("in F16, 2⁻¹¹"),
        Dtype::F32 => Some("in F32, 2⁻²⁴"),
        _ => None,
    }
}

/// Writes the base if it is the model without the adapter.
fn restore(args: &Unmerge, base: &Path, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    const SHOWN: usize = 20;
    let plan = Plan::new(Recipe::of_adapter(base, &args.adapter), PlanOptions::default(), registry)?;
    let cancel = Cancel::new();
    let progress = args.options.work.progress("compare", plan.size());
    let compare = || differing(&plan, &args.model, args.options.memory, (&cancel, &progress), registry);
    let found = args.options.work.pool()?.install(compare)?;
    drop(progress);
    let (shown, of, model) = (text::path(base), text::path(&args.adapter), text::path(&args.model));
    if found.is_empty() {
        if !args.options.work.quiet {
            writeln!(out, "`{shown}` with `{of}` is `{model}`, bit for bit")?;
        }
        let plan = Plan::new(Recipe::of_model(base), PlanOptions::default(), registry)?;
        return write_model(&plan, &args.output, &args.options, registry, out);
    }
    for tensor in found.iter().take(SHOWN) {
        writeln!(out, "`{}`: {}", text::printable(&tensor.name), tensor.how)?;
    }
    let more = if found.len() > SHOWN { format!(" (the first {SHOWN} are shown)") } else { String::new() };
    let count = text::count(found.len(), "tensor");
    writeln!(out, "`{shown}` with `{of}` is not `{model}`: it differs in {count}{more}; nothing was written")?;
    Ok(Outcome::Found)
}

fn extract_adapter(args: &Extract, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let begin = Instant::now();
    check_free(&args.output, args.force)?;
    let model = Model::open(&args.model, &[], registry)?;
    let mut size = (0, 0);
    for name in model.names() {
        let spec = model.spec(name)?;
        size = (size.0 + spec.elements() as u64, size.1 + spec.byte_len() as u64);
    }
    let progress = args.work.progress("extract", size);
    let how = How { max_rank: args.rank, epsilon: args.epsilon, embeddings: args.embeddings, ..How::default() };
    let models = [&*args.base, &*args.model];
    let cancel = Cancel::new();
    let found = args.work.pool()?.install(|| extract(models, &args.output, &how, (&cancel, &progress), registry))?;
    drop(progress);
    if args.work.quiet {
        return Ok(Outcome::Clean);
    }
    let (shown, modules) = (text::path(&args.output), text::count(found.modules, "module"));
    let whole = text::count(found.whole, "whole tensor");
    writeln!(out, "`{shown}`: {modules} of rank up to {}, {whole}", found.rank)?;
    writeln!(out, "‖Δ − B·A‖/‖Δ‖ is {:.3e}; it took {:.1} s", found.error, begin.elapsed().as_secs_f64())?;
    Ok(Outcome::Clean)
}
