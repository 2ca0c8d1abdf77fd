//! The dense model, and what its variants are measured with.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use checkpoint::{Hash, Model};
use codec_api::Registry;
use planner::{Key, Machine, Profile, Settings};
use runtime::{Decoder, Evaluation, Options, Protocol, Resident, Text, evaluate};

use crate::error::{Error, Result};
use crate::quality::Quality;
use crate::requests::{Requests, Timing};

/// The recipe of the dense model itself.
pub const DENSE: &str = "dense";

/// Texts, and how they are cut into windows.
#[derive(Clone, Debug)]
pub struct Texts {
    /// The texts, in tokens of the model.
    pub texts: Vec<Text>,
    /// The windows.
    pub protocol: Protocol,
}

/// The dense model, and the texts and settings with which it and its variants are measured.
#[derive(Debug)]
pub struct Subject {
    name: String,
    hash: String,
    dense: Decoder,
    options: Options,
    texts: Option<Texts>,
    text_hash: Option<String>,
    /// Number of windows.
    windows: usize,
}

/// How much of a variant is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Only so many windows of the text, 0 for none of it; `None` for all.
    pub windows: Option<usize>,
    /// The requests, if any are timed.
    pub requests: Option<Requests>,
}

impl Subject {
    /// Opens the dense model.
    ///
    /// # Errors
    /// For a model that is not dense, cannot be read or run; [`Error::Input`] for texts with fewer
    /// than two windows.
    pub fn open(path: &Path, texts: Option<Texts>, options: Options, registry: &Registry) -> Result<Self> {
        let model = Model::open(path, &[], registry)?;
        let Model::Dense(dense) = &model else {
            let reason = "is not dense; variants are compared with the dense model that they are made of";
            return Err(Error::Input(format!("`{}` {reason}", path.display())));
        };
        let (name, hash) = (path.display().to_string(), Hash(dense.hash()?).to_string());
        let dense = Decoder::open(&model, options)?;
        let mut windows = 0;
        if let Some(Texts { texts, protocol }) = &texts {
            windows = protocol.count(&dense, texts)?;
            if windows < 2 {
                let (context, _) = protocol.sizes(&dense)?;
                return Err(Error::Input(format!(
                    "the text is too short: it has {windows} window of {context} tokens, and a confidence interval \
                     needs at least 2; give a longer text, or a smaller context"
                )));
            }
        }
        let text_hash = texts.as_ref().map(|texts| hash_of(&texts.texts));
        Ok(Self { name, hash, dense, options, texts, text_hash, windows })
    }

    /// Hash of the dense model's content.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Number of windows of the text; 0 without one.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// The dense model, ready to run.
    pub fn dense(&self) -> &Decoder {
        &self.dense
    }

    /// How variants run.
    pub fn options(&self) -> Options {
        self.options
    }

    /// For what a profile holds.
    ///
    /// # Errors
    /// [`Error::Runtime`] if the windows do not fit the model.
    pub fn key(&self, recipe: &str, depth: &Depth) -> Result<Key> {
        let sizes = self.texts.as_ref().map(|texts| texts.protocol.sizes(&self.dense)).transpose()?;
        let resident = match self.options.resident {
            Resident::Packed => "packed",
            Resident::Dense => "dense",
        };
        let lengths = depth.requests.as_ref().map_or(Vec::new(), |requests| requests.lengths.clone());
        let all = self.texts.as_ref().and_then(|texts| texts.protocol.windows);
        let windows = depth.windows.filter(|windows| *windows < self.windows).or(all);
        Ok(Key {
            model_hash: self.hash.clone(),
            recipe: recipe.to_owned(),
            machine: this_machine(),
            settings: Settings {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                text_hash: self.text_hash.clone(),
                context: sizes.map(|(context, _)| context as u64),
                stride: sizes.map(|(_, stride)| stride as u64),
                windows: windows.map(|windows| windows as u64),
                threads: u32::try_from(self.options.threads).unwrap_or(u32::MAX),
                resident: resident.to_owned(),
                lengths,
                runs: depth.requests.as_ref().map_or(0, |requests| requests.runs),
            },
        })
    }

    /// The quality of a variant, or of the dense model itself for `None`, on the first windows of
    /// the text; `None` without a text or windows. `each` is called after each window with its
    /// number of tokens; an error of it ends the work.
    ///
    /// # Errors
    /// Those of [`evaluate`] and of `each`.
    pub fn quality(
        &self,
        variant: Option<&Model>,
        windows: Option<usize>,
        each: impl FnMut(u64) -> runtime::Result<()>,
    ) -> Result<Option<Quality>> {
        let Some(Texts { texts, protocol }) = self.texts.as_ref().filter(|_| windows != Some(0)) else {
            return Ok(None);
        };
        let all = protocol.windows.unwrap_or(usize::MAX);
        let protocol = Protocol { windows: Some(windows.unwrap_or(all).min(all)), ..*protocol };
        let found: Evaluation = match variant {
            None => evaluate(&self.dense, None, texts, protocol, each)?,
            Some(model) => {
                let decoder = Decoder::open(model, self.options)?;
                evaluate(&decoder, Some(&self.dense), texts, protocol, each)?
            }
        };
        Ok(Some(Quality::of(&found)?))
    }

    /// The profile with what was measured of a variant whose files these are.
    ///
    /// # Errors
    /// If a file of the model has gone.
    pub fn profile(
        &self,
        key: Key,
        model: &Model,
        quality: Option<Quality>,
        timing: Option<Timing>,
    ) -> Result<Profile> {
        Ok(Profile {
            model: self.name.clone(),
            key,
            bytes_on_disk: bytes_on_disk(model)?,
            resident_bytes: timing.as_ref().map(|timing| timing.resident_bytes),
            peak_rss_bytes: timing.as_ref().and_then(|timing| timing.peak_rss_bytes),
            perplexity: quality.map(|quality| quality.perplexity),
            perplexity_change: quality.map(|quality| quality.perplexity_change),
            kl: quality.map(|quality| quality.kl),
            top1: quality.map(|quality| quality.top1),
            prefill_tokens_per_s: timing.as_ref().map(|timing| timing.prefill_tokens_per_s),
            decode_tokens_per_s: timing.as_ref().map(|timing| timing.decode_tokens_per_s),
            load_ms: timing.as_ref().map(|timing| timing.load_ms),
            latencies: timing.map_or(Vec::new(), |timing| timing.latencies),
        })
    }
}

/// Bytes of all files of a model.
///
/// # Errors
/// [`Error::Input`] if a file has gone.
pub fn bytes_on_disk(model: &Model) -> Result<u64> {
    let mut files = model.files();
    files.sort_unstable();
    files.dedup();
    let mut bytes = 0;
    for file in files {
        let metadata = fs::metadata(&file);
        bytes += metadata.map_err(|error| Error::Input(format!("cannot read `{}`: {error}", file.display())))?.len();
    }
    Ok(bytes)
}

/// Hash of the tokens of texts, and of which windows of them count.
fn hash_of(texts: &[Text]) -> String {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend((text.ids.len() as u64).to_le_bytes());
        bytes.push(u8::from(text.first_window));
        bytes.extend(text.ids.iter().flat_map(|id| id.to_le_bytes()));
    }
    Hash::of(&bytes).to_string()
}

/// The machine that this program runs on.
pub fn this_machine() -> Machine {
    let found = harness::matrix::Machine::this();
    let cores = available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    Machine { cpu: found.cpu.unwrap_or_else(|| "unknown".to_owned()), simd: found.simd, cores }
}
