//! What can go wrong in a merge.

use std::path::PathBuf;

use codec_api::CodecError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a merge. Its text names the place and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe that cannot be read.
    #[error("recipe `{}`: {reason}", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A key of the recipe with a value that cannot be used.
    #[error("recipe, `{key}`: {reason}")]
    Key {
        /// The path of the key.
        key: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A tensor of a model that the recipe cannot use.
    #[error("model `{model}`, tensor `{tensor}`: {reason}")]
    Tensor {
        /// The model, as the recipe names it.
        model: String,
        /// The tensor.
        tensor: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Inputs or parameters that a method refuses.
    #[error("{0}")]
    Method(String),
    /// A file beside the tensors: a configuration, or an adapter.
    #[error("`{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Those of model files.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// Those of tensors.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Error {
    pub(crate) fn key(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Key { key: key.into(), reason: reason.into() }
    }

    pub(crate) fn tensor(model: impl Into<String>, tensor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Tensor { model: model.into(), tensor: tensor.into(), reason: reason.into() }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::File { path: path.into(), reason: reason.into() }
    }
}
