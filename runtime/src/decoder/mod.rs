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
use crate::weights::{Adapter, Demand, Linear, Resident, Store, Table};
pub(crate) use attention::Rotation;
pub(crate) use experts::route;
use layer::Layer;
pub(crate) use layer::Norm;

/// How a model is opened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Number of threads.
    pub threads: usize,
    /// How packed weights stay in memory.
    pub resident: Resident,
    /// Most bytes that the weights take; no limit by default.
    pub memory: Option<u64>,
}

impl Options {
    /// So many threads, and packed weights that stay packed.
    pub fn new(threads: usize) -> Self {
        Self { threads, resident: Resident::default(), memory: None }
    }

    /// Sets how packed weights stay in memory.
    #[must_use]
    pub fn with_resident(mut self, resident: Resident) -> Self {
        self.resident = resident;
        self
    }

    /// Sets the most bytes that the weights take, beside what a text needs. The matrices of the
    /// layers are then loaded when they are used, one layer ahead, and stay as long as there is
    /// room. The logits have the same bits.
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
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
    /// Bytes of the weights that always stay in memory.
    resident_bytes: u64,
    /// Bytes of these weights that a token reads.
    token_bytes: u64,
    /// The weights that are loaded when they are used.
    store: Option<Store>,
    team: Team,
}

impl Decoder {
    /// Opens a model, dense or packed. Its `config.json` is beside the weights.
    ///
    /// # Errors
    /// [`crate::Error`] if a file cannot be read, the configuration is not supported, or a tensor
    /// is missing, has another shape or is not finite, or the limit of memory is too low.
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
    /// that only look-ups read beside an operator of integers are not counted. With a limit of
    /// memory, those are counted that are in memory now.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes + self.store.as_ref().map_or(0, Store::resident_bytes)
    }

    /// What was loaded so far, if there is a limit of memory.
    pub fn demand(&self) -> Option<Demand> {
        self.store.as_ref().map(Store::demand)
    }

    /// Bytes of these weights that a single token reads: without those of other positions, of an
    /// embedding that is not the head, and of experts that the token does not use.
    pub fn token_bytes(&self) -> u64 {
        self.token_bytes
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.team.count()
    }
}

/// The directory of a model's files.
pub fn directory(model: &Model) -> &Path {
    model.directory()
}
