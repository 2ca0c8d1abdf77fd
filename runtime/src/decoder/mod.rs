//! The decoder: a model that predicts the next token.

mod attention;
mod cache;
mod experts;
mod forward;
mod layer;
mod load;
mod session;

use std::path::Path;

use checkpoint::Model;

pub use cache::CacheType;
pub use session::Session;
pub(crate) use session::{chunks, within};

use crate::config::Config;
use crate::error::Result;
use crate::team::Team;
use crate::weights::{Adapter, Linear, Resident, Table};
use layer::{Layer, Norm};

/// How a model is opened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Number of threads.
    pub threads: usize,
    /// How packed weights stay in memory.
    pub resident: Resident,
}

impl Options {
    /// So many threads, and packed weights that stay packed.
    pub fn new(threads: usize) -> Self {
        Self { threads, resident: Resident::default() }
    }

    /// Sets how packed weights stay in memory.
    #[must_use]
    pub fn with_resident(mut self, resident: Resident) -> Self {
        self.resident = resident;
        self
    }
}

/// A language model that is ready to run. A [`Session`] holds what depends on a text.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    embedding: Table,
    /// Learned positions.
    positions: Option<Table>,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
    resident_bytes: u64,
    team: Team,
}

impl Decoder {
    /// Opens a model, dense or packed. Its `config.json` is beside the weights.
    ///
    /// # Errors
    /// [`crate::Error`] if a file cannot be read, the configuration is not supported, or a tensor
    /// is missing, has another shape or is not finite.
    pub fn open(model: &Model, options: Options) -> Result<Self> {
        Self::adapted(model, None, options)
    }

    /// As [`Self::open`], with a LoRA adapter beside the linear layers if there is one. The weights
    /// themselves may be dense or packed.
    ///
    /// # Errors
    /// Also [`crate::Error::Tensor`] if the adapter does not fit the model.
    pub fn adapted(model: &Model, adapter: Option<&Adapter>, options: Options) -> Result<Self> {
        let config = Config::read(&directory(model).join("config.json"))?;
        load::load(model, config, adapter, options)
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes that the weights keep in memory: heap, and packed sections in the memory map. Sections
    /// that only look-ups read beside an operator of integers are not counted.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.team.count()
    }
}

/// The directory of a model's files.
pub fn directory(model: &Model) -> &Path {
    let file = match model {
        Model::Dense(model) => model.files().first().map(std::path::PathBuf::as_path),
        Model::Packed(packed) => Some(packed.path()),
    };
    let directory = file.and_then(Path::parent).filter(|directory| !directory.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}
