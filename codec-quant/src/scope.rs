//! What shares a scale, for the codecs that have one for a tensor or one for a row.

use std::num::NonZeroUsize;

use codec_api::Chunking;
use serde::{Deserialize, Serialize};

/// What shares a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All weights of the tensor.
    #[default]
    Tensor,
    /// A row of the matrix view.
    Row,
}

impl Scope {
    /// How many scales a matrix of so many rows has.
    pub(crate) fn scales(self, rows: usize) -> usize {
        if self == Self::Row { rows } else { 1 }
    }

    /// How many weights in a matrix of so many columns, and weights in all, share one; at least 1.
    pub(crate) fn weights(self, columns: usize, elements: usize) -> usize {
        if self == Self::Row { columns.max(1) } else { elements.max(1) }
    }

    /// Where a tensor may be cut.
    pub(crate) fn chunking(self) -> Chunking {
        if self == Self::Row { Chunking::Rows(NonZeroUsize::MIN) } else { Chunking::Whole }
    }
}
