//! `netweight speed MODEL`: tokens per second of a model in several forms.

mod forms;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use codec_api::Registry;
use harness::matrix::rss;
use indicatif::ProgressBar;
use runtime::{Bandwidth, Decoder, Lengths, Shape, Speed, measure};
use simd::{Level, with_level};

use crate::running::Running;
use crate::{Outcome, console};
use report::Subject;

/// Measure how fast a language model runs, packed with several recipes
///
/// For each recipe, the model is packed into a temporary directory and opened. Then all of them
/// take turns: a prompt, and tokens one by one. The table shows medians, and which share of the
/// speed at which the same threads read memory in this run the reading of the weights reaches. With
/// --shape, no model is needed: the architecture gets random weights.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// A model directory, a .safetensors file or a packed model, which is measured as it is
    #[arg(required_unless_present = "shape")]
    pub model: Option<PathBuf>,
    /// Architectures with random weights, in place of a model
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', conflicts_with = "model", value_parser = PossibleValuesParser::new(Shape::names()))]
    pub shape: Vec<String>,
    /// Recipes of `compress`, and f32, bf16 and f16 for dense weights
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', default_value = "f32,int8,q4")]
    pub recipes: Vec<String>,
    /// Tokens of the prompt, which run together
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub prompt: usize,
    /// Tokens after the prompt, which run one by one
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64)]
    pub tokens: usize,
    /// Times that each recipe is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Seed of random weights, and of codecs that use random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// No vector instructions above this level, except in dense products of batches
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Highest::Avx512)]
    pub simd: Highest,
    #[command(flatten)]
    pub running: Running,
    /// Print a line of JSON for each recipe
    #[arg(long)]
    pub json: bool,
}

/// A level of vector instructions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Highest {
    /// None.
    Scalar,
    /// AVX2.
    Avx2,
    /// AVX-512.
    Avx512,
}

const HELP: &str = "\
Figures:
  weights: bytes that stay in memory for them. memory: by how much opening the
  model and running a token let the memory of the process grow.
  of read: the bytes of the weights that a token reads, times tokens/s, divided
  by the speed of reading an array of 2 GiB. Weights that fit into a cache may
  be read faster than that.

Examples:
  netweight speed my-model
  netweight speed my-model --recipes bf16,int8,lossless -j 4
  netweight speed --shape gpt2,gpt2-large --recipes f32,q4 --json";

/// A model in one form, ready to run.
struct Form {
    recipe: String,
    decoder: Decoder,
    /// Bytes by which the memory of the process grew.
    rss: Option<u64>,
    speeds: Vec<Speed>,
}

/// Measures and prints.
///
/// # Errors
/// For models that cannot run and recipes that do not fit; if the temporary files cannot be
/// written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let level = match args.simd {
        Highest::Scalar => Level::Scalar,
        Highest::Avx2 => Level::Avx2,
        Highest::Avx512 => Level::Avx512,
    };
    with_level(level, || match &args.model {
        Some(model) => measure_one(args, (&model.display().to_string(), false), model, registry, out),
        None => args.shape.iter().try_for_each(|name| {
            let folder = forms::folder()?;
            let model = folder.path().join("random");
            let shape = Shape::named(name).context("a known shape")?;
            shape.write(args.seed, &model)?;
            measure_one(args, (name, true), &model, registry, out)
        }),
    })?;
    Ok(Outcome::Clean)
}

fn measure_one(
    args: &Args,
    (name, random): (&str, bool),
    model: &Path,
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<()> {
    let recipes = args.recipes.len() as u64;
    let bar = console::bar(recipes * (2 + args.rounds));
    let measured = measure_forms(args, model, registry, &bar);
    console::remove(&bar);
    let (forms, bandwidth) = measured?;
    let subject = Subject { name, random, args, bandwidth };
    subject.print(&forms, out)
}

/// Opens the model in all forms and measures them in turn; also the speed of reading memory.
fn measure_forms(args: &Args, model: &Path, registry: &Registry, bar: &ProgressBar) -> Result<(Vec<Form>, f64)> {
    let folder = forms::folder()?;
    let paths = forms::prepare(args, model, folder.path(), registry, bar)?;
    let mut forms = Vec::new();
    for (recipe, path) in paths {
        forms.push(open(args, recipe, &path, registry)?);
        bar.inc(1);
    }
    let (memory, mut read) = (Bandwidth::new(args.running.threads())?, Vec::new());
    let lengths = Lengths { prompt: args.prompt, tokens: args.tokens };
    for _ in 0..args.rounds {
        read.push(memory.measure()?);
        for form in &mut forms {
            form.speeds.push(measure(&form.decoder, lengths)?);
            bar.inc(1);
        }
    }
    Ok((forms, report::median(read)))
}

fn open(args: &Args, recipe: String, path: &Path, registry: &Registry) -> Result<Form> {
    // What packing has left would hold a part of the weights.
    heap::trim();
    let before = rss();
    let bases = if recipe == forms::PACKED { &*args.running.base.bases } else { &[] };
    let (_, decoder) = args.running.open_with(path, bases, registry)?;
    // Mapped pages are in memory when they are read.
    measure(&decoder, Lengths { prompt: 1, tokens: 1 })?;
    let rss = rss().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(Form { recipe, decoder, rss, speeds: Vec::new() })
}
