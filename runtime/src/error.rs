//! Errors of opening and running a model.

use std::path::{Path, PathBuf};

use codec_api::CodecError;

/// Why a model could not be opened or run. Each message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The files of the weights.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A file beside the weights that cannot be read.
    #[error("cannot read `{path}`: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason and the remedy.
        reason: String,
    },
    /// A configuration that the decoder does not support, or that contradicts itself.
    #[error("`{path}`, key `{key}`: {reason}")]
    Config {
        /// The file `config.json`.
        path: PathBuf,
        /// The key, with the keys around it.
        key: String,
        /// The reason.
        reason: String,
    },
    /// A tensor that does not fit the configuration.
    #[error("`{path}`, tensor `{tensor}`: {reason}")]
    Tensor {
        /// The model.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The reason.
        reason: String,
    },
    /// A codec or an operator fails.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Wrong use, such as a token that the model does not have.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    pub(crate) fn tensor(path: &Path, tensor: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), reason: reason.into() }
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;
