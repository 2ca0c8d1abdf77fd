//! What the commands share that run models.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use checkpoint::Model;
use clap::ValueEnum;
use codec_api::Registry;
use runtime::{Decoder, Options};

use crate::packing::Bases;

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

/// The text of a file.
///
/// # Errors
/// With the path, if it cannot be read or is no text.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}
