//! Measures variants, unless a file of profiles has them.

use std::path::Path;

use anyhow::{Context, Result};
use checkpoint::Model;
use codec_api::Registry;
use planner::{Lengths, Profile, Profiles};
use profiler::{Depth, Requests, Subject, Texts};
use runtime::{Protocol, Tokenizer, directory};

use super::timed;
use crate::bench::interrupt;
use crate::running::{self, Resident};

/// What is measured and how.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measurement")]
pub struct Measurement {
    /// Tokens of a window of the text; by default as many as the model was made for
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    /// Tokens from one window to the next; by default those of a window
    #[arg(long, value_name = "N")]
    pub stride: Option<usize>,
    /// Only the first N windows
    #[arg(long, value_name = "N")]
    pub windows: Option<usize>,
    /// Kinds of timed requests: tokens of the prompt + tokens of the output; by default 128+32, or
    /// what fits the model
    #[arg(long, value_name = "P+N", value_delimiter = ',', value_parser = timed::parse_lengths)]
    pub request: Vec<Lengths>,
    /// Timed requests of each kind; with fewer than 100, p99 is the longest time
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub runs: u64,
    /// Number of threads; by default one for each core
    #[arg(short = 'j', long, value_name = "N", value_parser = running::threads())]
    pub threads: Option<u16>,
    /// How packed weights stay in memory
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Resident::Packed)]
    pub resident: Resident,
}

impl Measurement {
    /// The windows of texts.
    pub fn protocol(&self) -> Protocol {
        Protocol { context: self.context, stride: self.stride, windows: self.windows, skip: 0 }
    }

    /// Opens the dense model, with these texts.
    ///
    /// # Errors
    /// For a model that is not dense or cannot run, and a text that is too short.
    pub fn subject(&self, model: &Path, texts: &[std::path::PathBuf], registry: &Registry) -> Result<Subject> {
        let options = running::options(running::cores(self.threads), self.resident);
        let texts = match texts {
            [] => None,
            files => {
                let opened = Model::open(model, &[], registry)?;
                let texts = running::texts(files, &Tokenizer::open(directory(&opened))?)?;
                Some(Texts { texts, protocol: self.protocol() })
            }
        };
        Ok(Subject::open(model, texts, options, registry)?)
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
            anyhow::bail!("--request {prompt}+{output} does not fit the model's context of {context} tokens");
        }
        Ok(Requests::new(lengths, runs)?)
    }
}

/// The profile of a variant, from the file if it is there, otherwise measured and stored. `path` is
/// where its files are, or `None` for the dense model at `dense`; `each` hears of tokens that ran.
///
/// # Errors
/// If it cannot run or be timed, or the file cannot be written.
pub fn profile(
    subject: &Subject,
    recipe: &str,
    (dense, path): (&Path, Option<&Path>),
    depth: &Depth,
    profiles: Option<&mut Profiles>,
    registry: &Registry,
) -> Result<Profile> {
    let key = subject.key(recipe, depth)?;
    if let Some(found) = profiles.as_ref().and_then(|profiles| profiles.find(&key)) {
        return Ok(found.clone());
    }
    let model = Model::open(path.unwrap_or(dense), &[], registry)?;
    let cancel = interrupt::watch();
    cancel.check()?;
    let quality = subject.quality(path.map(|_| &model), depth.windows, |_| Ok(cancel.check()?))?;
    let requests = depth.requests.as_ref();
    let time = |requests| timed::in_new_process(path.unwrap_or(dense), requests, subject.options());
    let timing = requests.map(time).transpose();
    // A process that Ctrl-C has ended is no failure of the variant.
    cancel.check()?;
    let profile = subject.profile(key, &model, quality, timing.with_context(|| format!("recipe `{recipe}`"))?)?;
    profiles.map_or(Ok(()), |profiles| profiles.append(profile.clone()))?;
    Ok(profile)
}
