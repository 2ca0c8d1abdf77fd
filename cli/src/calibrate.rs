//! `netweight calibrate MODEL --text FILE -o STATISTICS`: curvatures for `compress --calibration`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Error, Result, anyhow, bail};
use calibrate::{Collection, Protocol, ends_at, folder};
use checkpoint::{Hash, Model};
use codec_api::Registry;
use runtime::{Layered, Tokenizer, directory};

use crate::console::{INTERVAL, left, line};
use crate::packing::{Work, check_free};
use crate::running::texts;
use crate::{Outcome, text};

/// Collect the statistics that `compress --calibration` uses
///
/// Runs a language model on texts, forward and backward, and writes for each matrix how its inputs
/// depend on each other, and how much errors of its outputs change the predictions. The model is
/// dense; config.json and tokenizer.json are beside it. Use other texts than those that you measure
/// with. One layer of the model is in memory at a time; a folder beside the output, *.work, has
/// what goes from layer to layer. A run that was interrupted goes on where it was when the same
/// command is given again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory or a .safetensors file
    pub model: PathBuf,
    /// Files with text; `netweight eval --help` describes .jsonl files
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub text: Vec<PathBuf>,
    /// The file of statistics
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Most tokens of a sequence; by default those of the model, at most 2048
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    /// Most tokens of all sequences, which are drawn from the texts
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    pub tokens: usize,
    /// Seed of the choice of sequences, and of the labels
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Leave out the passes backward: faster, but errors of all outputs then count the same
    #[arg(long)]
    pub forward_only: bool,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

/// Most tokens of a sequence by default.
const CONTEXT: usize = 2048;

/// Collects and writes the statistics.
///
/// # Errors
/// For an unreadable model or text, a model that cannot be calibrated, too little text, and a file
/// that exists or cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    if !ends_at(&args.output) {
        check_free(&args.output, args.force)?;
    }
    let model = Model::open(&args.model, &[], registry)?;
    let Model::Dense(dense) = &model else {
        bail!("`{}` is packed; statistics belong to the dense model", args.model.display());
    };
    let layered = Layered::open(&model)?;
    let tokenizer = Tokenizer::open(directory(&model))?;
    let texts = texts(&args.text, &tokenizer)?;
    let texts: Vec<_> =
        texts.into_iter().map(|text| calibrate::Text { ids: text.ids, first_sequence: text.first_window }).collect();
    let protocol = Protocol {
        context: args.context.unwrap_or_else(|| layered.config().context.min(CONTEXT)),
        tokens: args.tokens,
        seed: args.seed,
        forward_only: args.forward_only,
    };
    let hash = Hash(dense.hash()?).to_string();
    let collection = Collection::new(&layered, &hash, &texts, protocol)?;
    let (begin, pool) = (Instant::now(), args.work.pool()?);
    pool.install(|| collect(args, &collection))?;
    if !args.work.quiet {
        let (matrices, tokens, sequences) = (collection.matrices(), collection.tokens(), collection.sequences().len());
        let (shown, seconds) = (text::path(&args.output), begin.elapsed().as_secs_f64());
        writeln!(out, "`{shown}`: {matrices} matrices, {tokens} tokens in {sequences} sequences")?;
        writeln!(out, "it took {seconds:.1} s, {:.0} tokens/s", tokens as f64 / seconds.max(1e-3))?;
    }
    Ok(Outcome::Clean)
}

/// Says what the collection needs, and runs it.
fn collect(args: &Args, collection: &Collection<'_>) -> Result<()> {
    let work = folder(&args.output);
    if !args.work.quiet {
        let (memory, disk) = (text::size(collection.memory()), text::size(collection.disk()));
        line(&format!("calibrate: at most about {memory} of memory; {disk} on the disk, in `{}`", text::path(&work)));
    }
    let (begin, mut last, mut before) = (Instant::now(), Instant::now(), None);
    let mut each = |done: u64, all: u64| {
        let before = *before.get_or_insert(done);
        if !args.work.quiet && last.elapsed() >= INTERVAL {
            last = Instant::now();
            let left = left(done - before, all - before, begin.elapsed());
            line(&format!("calibrate: {} %{left}", 100 * u128::from(done) / u128::from(all.max(1))));
        }
        Ok(())
    };
    collection.run(&args.output, &mut each).map_err(|error| with_folder(error, &work))
}

/// The error, and where finished layers are.
fn with_folder(error: calibrate::Error, folder: &Path) -> Error {
    match &error {
        calibrate::Error::File { path, .. } if path == folder => error.into(),
        _ if !folder.exists() => error.into(),
        _ => anyhow!("{error}; finished layers are in `{}`, and the same command goes on with them", folder.display()),
    }
}
