//! The scope of a scale, for codecs with one scale per tensor or per row.

use serde::{Deserialize, Serialize};

/// Which weights share a scale.
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
    /// Number of scales of a matrix with `rows` rows.
    pub(crate) fn scales(self, rows: usize) -> usize {
        if self == Self::Row { rows } else { 1 }
    }

    /// Number of weights that share a scale in a matrix of `columns` columns and `elements`
    /// weights; at least 1.
    pub(crate) fn weights(self, columns: usize, elements: usize) -> usize {
        if self == Self::Row { columns.max(1) } else { elements.max(1) }
    }
}
