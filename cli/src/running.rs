//! What the commands share that run models.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use checkpoint::Model;
use clap::ValueEnum;
use clap::builder::RangedI64ValueParser;
use codec_api::Registry;
use runtime::{Adapter, Decoder, Demand, Options, Protocol, Text, Tokenizer, directory};
use serde::Serialize;

use crate::options::parse_size;
use crate::packing::Bases;
use crate::text;

/// How a model runs.
#[derive(Debug, clap::Args)]
pub struct Running {
    #[command(flatten)]
    pub base: Bases,
    #[command(flatten)]
    pub execution: Execution,
    /// A directory with a LoRA adapter, as PEFT writes it: it runs beside the weights
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Most memory for the weights of a model, such as 2GB; matrices of layers and experts are then
    /// loaded when they are used
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
}

/// Threads, and the form of weights in memory.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Execution {
    /// Number of threads; by default one for each core
    #[arg(short = 'j', long, visible_alias = "jobs", value_name = "N", value_parser = threads())]
    threads: Option<u16>,
    /// How packed weights stay in memory; dense ones always stay in their dtype
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Resident::Packed)]
    resident: Resident,
}

impl Execution {
    /// Number of threads.
    pub fn threads(self) -> usize {
        cores(self.threads)
    }

    /// How models are opened.
    pub fn options(self) -> Options {
        options(self.threads(), self.resident)
    }
}

/// How texts are cut into windows.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct WindowOptions {
    /// Tokens of a window; by default as many as the model was made for
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Tokens from one window to the next; by default those of a window
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Only the first N windows
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
}

impl WindowOptions {
    /// The windows of texts.
    pub fn protocol(&self) -> Protocol {
        Protocol { context: self.context, stride: self.stride, windows: self.windows, skip: 0 }
    }
}

/// How packed weights stay in memory.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Resident {
    /// In their packed form: products decode a few rows at a time, or multiply with the codes
    Packed,
    /// Decoded once, to the dtype that they had before
    Dense,
}

impl Running {
    /// Opens the model to run it, with the bases that it may need, and its adapter.
    ///
    /// # Errors
    /// If it cannot be read, or the runtime does not support it.
    pub fn open(&self, path: &Path, registry: &Registry) -> Result<(Model, Decoder)> {
        self.open_with(path, &self.base.bases, registry)
    }

    /// As [`Self::open`], with these bases.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(&self, path: &Path, bases: &[PathBuf], registry: &Registry) -> Result<(Model, Decoder)> {
        let model = Model::open(path, bases, registry)?;
        let adapter = self.adapter.as_deref().map(Adapter::open).transpose()?;
        let decoder = Decoder::adapted(&model, adapter.as_ref(), self.options())?;
        // What loading needed beside the weights.
        heap::trim();
        Ok((model, decoder))
    }

    /// Opens another model to run it beside, without bases and adapter.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_other(&self, path: &Path, registry: &Registry) -> Result<Decoder> {
        Ok(Decoder::open(&Model::open(path, &[], registry)?, self.options())?)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.execution.threads()
    }

    fn options(&self) -> Options {
        let options = self.execution.options();
        self.memory.map_or(options, |bytes| options.with_memory(bytes))
    }
}

/// The values of `--threads`.
pub fn threads() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=1024)
}

/// This number of threads, or one for each core.
pub fn cores(threads: Option<u16>) -> usize {
    threads.map_or_else(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get), usize::from)
}

/// How models are opened.
pub fn options(threads: usize, resident: Resident) -> Options {
    let resident = match resident {
        Resident::Packed => runtime::Resident::Packed,
        Resident::Dense => runtime::Resident::Dense,
    };
    Options::new(threads).with_resident(resident)
}

/// Files that the runtime reads beside a model.
const BESIDE: [&str; 4] = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// Copies the files that the runtime reads beside a model, unless they are in the folder already.
///
/// # Errors
/// If one cannot be copied.
pub fn copy_beside(model: &Model, folder: &Path) -> Result<()> {
    for name in BESIDE {
        let (from, to) = (directory(model).join(name), folder.join(name));
        if from.is_file() && !to.exists() {
            fs::copy(&from, &to).with_context(|| format!("cannot copy `{}`", from.display()))?;
        }
    }
    Ok(())
}

/// What was loaded within a limit of memory, as JSON.
#[derive(Debug, Serialize)]
pub struct Memory {
    limit: u64,
    all_weights: u64,
    loads: u64,
    bytes_read: u64,
    experts: u64,
    expert_hits: u64,
}

impl Memory {
    /// That of a decoder, if it has a limit.
    pub fn of(decoder: &Decoder) -> Option<Self> {
        let Demand { limit, all, loads, read, experts, hits, .. } = decoder.demand()?;
        Some(Self { limit, all_weights: all, loads, bytes_read: read, experts, expert_hits: hits })
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let [limit, all, read] = [self.limit, self.all_weights, self.bytes_read].map(text::size);
        let experts = match self.experts {
            0 => String::new(),
            experts => {
                let share = 100.0 * self.expert_hits as f64 / experts as f64;
                format!("; {share:.1} % of {} were in memory", text::count(experts as usize, "expert"))
            }
        };
        format!(
            "at most {limit} of {all} of weights at once: {} of {read}{experts}",
            text::count(self.loads as usize, "load")
        )
    }
}

/// The text of a file.
///
/// # Errors
/// With the path, if it cannot be read or is no text.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// The texts of files, as `eval --help` describes them.
///
/// # Errors
/// If a file cannot be read, a line of a `.jsonl` file has no text, or the tokenizer has no token
/// for a part.
pub fn texts(files: &[PathBuf], tokenizer: &Tokenizer) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    let mut add = |text: &str, first_window| -> Result<()> {
        texts.push(Text { ids: tokenizer.encode(text)?, bytes: Some(text.len() as u64), first_window });
        Ok(())
    };
    for file in files {
        let content = read_text(file)?;
        let lines = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("jsonl"));
        if !lines {
            add(&content, false)?;
            continue;
        }
        for (number, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let value: serde_json::Value = serde_json::from_str(line)
                .with_context(|| format!("`{}`, line {}: not JSON", file.display(), number + 1))?;
            let Some(text) = value.get("text").and_then(serde_json::Value::as_str) else {
                bail!("`{}`, line {}: an object with a key `text` is wanted", file.display(), number + 1);
            };
            add(text, true)?;
        }
    }
    Ok(texts)
}
