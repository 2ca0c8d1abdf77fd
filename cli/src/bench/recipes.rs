//! `netweight bench --model`: a language model packed by recipes, beside the dense one.

pub mod choose;
mod measure;
mod progress;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use checkpoint::Model;
use codec_api::Registry;
use harness::models::{self, ModelRow};
use harness::report::{self, Journal, Layout};
use runtime::{Decoder, Protocol, Tokenizer, directory};

use super::{interrupt, reports};
use crate::args::Bench;
use crate::running::{self, Resident};
use crate::{Outcome, text};
use measure::Subject;

/// What does not go with a language model.
const OTHERS: [&str; 10] =
    ["model", "suite", "codecs", "include", "base", "calibrated", "cast", "long", "sort", "compare"];

/// The model level: options of `bench`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Language models")]
pub struct Options {
    /// Pack this language model with each of the --recipes, run it on the --text, and compare it
    /// with the dense one: perplexity, KL divergence, speed and memory
    #[arg(
        id = "language_model",
        long = "model",
        value_name = "MODEL",
        requires_all = ["text", "recipes"],
        conflicts_with_all = OTHERS,
        conflicts_with_all = ["csv", "resume"]
    )]
    pub model: Option<PathBuf>,
    /// Files with text, as for `eval`
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "language_model")]
    pub text: Vec<PathBuf>,
    /// Recipes, separated by commas outside parentheses: built-in ones, recipe files, or codec
    /// specs for the matrices, as for `compress`
    #[arg(long, value_name = "NAME|FILE|SPEC,…", requires = "language_model")]
    pub recipes: Option<String>,
    /// Tokens of a window; by default as many as the model was made for
    #[arg(long, value_name = "N", requires = "language_model")]
    pub context: Option<usize>,
    /// Tokens from one window to the next; by default those of a window
    #[arg(long, value_name = "N", requires = "language_model")]
    pub stride: Option<usize>,
    /// Only the first N windows
    #[arg(long, value_name = "N", requires = "language_model")]
    pub windows: Option<usize>,
    /// Number of threads; by default one for each core
    #[arg(short = 'j', long, value_name = "N", requires = "language_model", value_parser = running::threads())]
    pub threads: Option<u16>,
    /// Draw KL divergence against bits per weight
    #[arg(long, value_name = "FILE", requires = "language_model")]
    pub svg: Option<PathBuf>,
}

/// Measures, writes the reports, prints the table.
///
/// All checks of the arguments come before the measurement.
///
/// # Errors
/// For wrong arguments, a model that cannot be read, packed or run, or a report that cannot be
/// written.
pub fn run(args: &Bench, path: &Path, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let own = &args.language;
    let specs = super::specs::split(own.recipes.as_deref().unwrap_or_default());
    ensure!(!specs.is_empty(), "--recipes is empty; `netweight compress --help` describes recipes");
    let recipes = specs.iter().map(|spec| choose::recipe(spec, registry)).collect::<Result<Vec<_>>>()?;
    let dense = Model::open(path, &[], registry)?;
    reports::check(args)?;
    reports::check_inputs(args, &inputs(args, &dense, &specs))?;
    let threads = running::cores(own.threads);
    let decoder = Decoder::open(&dense, running::options(threads, Resident::Packed))?;
    let texts = running::texts(&own.text, &Tokenizer::open(directory(&dense))?)?;
    let protocol = Protocol { context: own.context, stride: own.stride, windows: own.windows, skip: 0 };
    let subject = Subject::new(args, registry, (path, &dense, &decoder), &texts, protocol, recipes.len())?;
    let plans = subject.plan(specs.iter().zip(&recipes))?;

    let (rows, measured) = measure(args, &subject, plans)?;
    write(args, &rows)?;
    let layout = if args.wide { Layout::Wide } else { Layout::Narrow(text::width()) };
    models::write_table(out, &rows, layout)?;
    if measured.is_err() && interrupt::watch().check().is_err() {
        writeln!(out, "interrupted: {} of {} models are measured", rows.len(), specs.len() + 1)?;
        return Ok(Outcome::Interrupted);
    }
    measured.map(|()| Outcome::Clean)
}

/// The rows, and why they are not all. Each goes to the JSON report when it is measured.
fn measure(args: &Bench, subject: &Subject<'_>, plans: Vec<measure::Planned>) -> Result<(Vec<ModelRow>, Result<()>)> {
    let mut journal = args.json.as_deref().map(Journal::create).transpose()?;
    let mut rows = Vec::new();
    let mut add = |row: ModelRow| -> Result<()> {
        if let Some(journal) = &mut journal {
            journal.push(&row)?;
        }
        rows.push(row);
        Ok(())
    };
    let all = || -> Result<()> {
        add(subject.dense()?)?;
        plans.into_iter().try_for_each(|planned| add(subject.packed(&planned)?))
    };
    let measured = all();
    Ok((rows, measured))
}

/// The files that a report must not replace.
fn inputs(args: &Bench, dense: &Model, specs: &[String]) -> Vec<PathBuf> {
    let Model::Dense(model) = dense else { return Vec::new() };
    let beside = ["config.json", "tokenizer.json"].map(|name| directory(dense).join(name));
    let files = model.files().iter().cloned().chain(model.index().map(Into::into)).chain(beside);
    files.chain(args.language.text.iter().cloned()).chain(specs.iter().map(PathBuf::from)).collect()
}

fn write(args: &Bench, rows: &[ModelRow]) -> Result<()> {
    if let Some(path) = &args.md {
        report::write_file(path, |out| models::write_markdown(out, rows))?;
    }
    if let Some(path) = &args.language.svg {
        report::write_file(path, |out| out.write_all(models::svg(rows).as_bytes()))?;
    }
    Ok(())
}
