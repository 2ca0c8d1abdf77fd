//! The curvatures of a model.

mod collect;
mod cost;
mod file;
mod folder;
pub(crate) mod gram;
mod part;
mod run;
mod sequences;
mod sums;
mod tables;
mod vectors;

use std::collections::BTreeMap;

use codec_api::InputAxis;
use serde::{Deserialize, Serialize};

pub use collect::Collection;
pub use folder::{ends_at, folder};
pub(crate) use sequences::batches;
pub use sequences::{Protocol, Text};

/// The curvatures of the matrices of a model, and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Where they come from.
    pub about: About,
    /// The tokens of the sequences that they are of.
    pub sequences: Vec<Vec<u32>>,
    /// Further sequences, to choose settings by.
    pub held_out: Vec<Vec<u32>>,
    /// By the names of the tensors.
    pub tensors: BTreeMap<String, TensorStatistics>,
}

impl Statistics {
    /// Number of the tokens that they are of.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }
}

/// Where statistics come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct About {
    /// blake3 of the model's tensors ([`checkpoint::Checkpoint::hash`]).
    pub model: String,
    /// Most tokens of a sequence.
    pub context: usize,
    /// Seed of the choice of sequences, and of the labels.
    pub seed: u64,
    /// Whether the curvatures of outputs are missing.
    pub forward_only: bool,
}

/// The curvatures of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorStatistics {
    /// The axis of the matrix view that the inputs run along.
    pub axis: InputAxis,
    /// That of the inputs.
    pub inputs: Curve,
    /// That of the outputs; `None` if only forward passes were made.
    pub outputs: Option<Curve>,
}

/// A curvature.
#[derive(Clone, Debug, PartialEq)]
pub enum Curve {
    /// A symmetric matrix, row-major.
    Matrix {
        /// Number of its rows.
        order: usize,
        /// Its entries.
        values: Vec<f32>,
    },
    /// A diagonal matrix.
    Diagonal(Vec<f32>),
}

impl Curve {
    /// Number of its inputs or outputs.
    pub fn order(&self) -> usize {
        match self {
            Self::Matrix { order, .. } => *order,
            Self::Diagonal(values) => values.len(),
        }
    }

    /// Its diagonal: mean squares.
    pub fn diagonal(&self) -> Vec<f32> {
        match self {
            Self::Matrix { order, values } => values.iter().step_by(order + 1).copied().collect(),
            Self::Diagonal(values) => values.clone(),
        }
    }
}
