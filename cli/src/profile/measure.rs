//! Measures variants, unless a file of profiles has them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use checkpoint::Model;
use codec_api::Registry;
use planner::{Lengths, Profile, Profiles};
use profiler::{DENSE, Depth, Requests, Subject, Texts};
use runtime::{Tokenizer, directory};

use super::timed;
use crate::bench::interrupt;
use crate::running::{Execution, WindowOptions, texts};

/// How much is measured and how.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measurement")]
pub struct Measurement {
    #[command(flatten)]
    pub windows: WindowOptions,
    /// Kinds of timed requests: tokens of the prompt + tokens of the output; by default 128+32, or
    /// what fits the model
    #[arg(long, value_name = "P+N", value_delimiter = ',', value_parser = timed::parse_lengths)]
    pub request: Vec<Lengths>,
    /// Timed requests of each kind; with fewer than 100, p99 is the longest time
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=RUNS))]
    pub runs: u64,
    #[command(flatten)]
    pub execution: Execution,
}

/// Most requests of a kind.
const RUNS: u64 = 1_000_000;

impl Measurement {
    /// Opens the dense model, with these texts.
    ///
    /// # Errors
    /// For a model that is not dense or cannot run, and a text that is too short.
    pub fn subject(&self, model: &Path, files: &[PathBuf], registry: &Registry) -> Result<Subject> {
        let read = || -> Result<Texts> {
            let tokenizer = Tokenizer::open(directory(&Model::open(model, &[], registry)?))?;
            Ok(Texts { texts: texts(files, &tokenizer)?, protocol: self.windows.protocol() })
        };
        let texts = (!files.is_empty()).then(read).transpose()?;
        Ok(Subject::open(model, texts, self.execution.options(), registry)?)
    }

    /// The timed requests, so many of each kind.
    ///
    /// # Errors
    /// If one does not fit the model's context.
    pub fn requests(&self, subject: &Subject, runs: u64) -> Result<Requests> {
        let context = subject.dense().config().context as u64;
        let usual = Lengths { prompt: 128.min(context / 2).max(1), output: 32.min(context / 4).max(1) };
        let lengths = if self.request.is_empty() { vec![usual] } else { self.request.clone() };
        if let Some(Lengths { prompt, output }) = lengths.iter().find(|lengths| lengths.total() > context) {
            bail!("--request {prompt}+{output} does not fit the model's context of {context} tokens");
        }
        Ok(Requests::new(lengths, runs)?)
    }
}

/// The profile of a variant, from the file if it is there, otherwise measured and stored. `place`
/// gives the directory or file of the variant's weights; it is called only if they are needed.
///
/// # Errors
/// Those of `place`; if the variant cannot run or be timed, or the file cannot be written.
pub fn profile(
    subject: &Subject,
    recipe: &str,
    depth: &Depth,
    profiles: Option<&mut Profiles>,
    registry: &Registry,
    place: impl FnOnce() -> Result<PathBuf>,
) -> Result<Profile> {
    let key = subject.key(recipe, depth)?;
    if let Some(found) = profiles.as_ref().and_then(|profiles| profiles.find(&key)) {
        return Ok(found.clone());
    }
    let place = place()?;
    let (model, cancel) = (Model::open(&place, &[], registry)?, interrupt::watch());
    cancel.check()?;
    let variant = (recipe != DENSE).then_some(&model);
    let quality = subject.quality(variant, depth.windows, |_| Ok(cancel.check()?))?;
    let time = |requests| timed::in_new_process(&place, requests, subject.options());
    let timing = depth.requests.as_ref().map(time).transpose();
    // A process that Ctrl-C has ended is no failure of the variant.
    cancel.check()?;
    let profile = subject.profile(key, &model, quality, timing.with_context(|| format!("recipe `{recipe}`"))?)?;
    profiles.map_or(Ok(()), |profiles| profiles.append(profile.clone()))?;
    Ok(profile)
}
