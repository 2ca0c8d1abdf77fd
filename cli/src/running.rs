//! What the commands share that run models.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use checkpoint::Model;
use clap::ValueEnum;
use codec_api::Registry;
use runtime::{Decoder, Demand, Options};
use serde::Serialize;

use crate::options::parse_size;
use crate::packing::Bases;
use crate::text;

/// How a model runs.
#[derive(Debug, clap::Args)]
pub struct Running {
    #[command(flatten)]
    pub base: Bases,
    /// Number of threads; by default one for each core
    #[arg(short = 'j', long, visible_alias = "jobs", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// How packed weights stay in memory; dense ones always stay in their dtype
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Resident::Packed)]
    pub resident: Resident,
    /// Most memory for the weights of a model, such as 2GB; matrices of layers and experts are then
    /// loaded when they are used
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
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
    /// Opens a model to run it, with the bases that it may need.
    ///
    /// # Errors
    /// If it cannot be read, or the runtime does not support it.
    pub fn open(&self, path: &Path, bases: &[PathBuf], registry: &Registry) -> Result<(Model, Decoder)> {
        let model = Model::open(path, bases, registry)?;
        let resident = match self.resident {
            Resident::Packed => runtime::Resident::Packed,
            Resident::Dense => runtime::Resident::Dense,
        };
        let options = Options::new(self.threads()).with_resident(resident);
        let options = self.memory.map_or(options, |bytes| options.with_memory(bytes));
        let decoder = Decoder::open(&model, options)?;
        // What loading needed beside the weights.
        heap::trim();
        Ok((model, decoder))
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        self.threads.map_or_else(cores, usize::from)
    }
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
