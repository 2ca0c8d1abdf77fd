//! Errors of opening and running a model.

use std::path::{Path, PathBuf};

use codec_api::CodecError;

/// Why a model could not be opened or run. Messages about files name the file.
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
    /// A file that cannot be written.
    #[error("cannot write `{path}`: {reason}")]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// The reason.
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
    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into() }
    }

    /// For a file beside the weights that cannot be read.
    pub(crate) fn beside(path: &Path, error: &std::io::Error) -> Self {
        Self::file(path, format!("{error}; a model in Hugging Face layout has this file beside its weights"))
    }

    /// For a file that cannot be written.
    pub(crate) fn unwritten(path: &Path, error: &std::io::Error) -> Self {
        Self::Unwritten { path: path.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), reason: reason.into() }
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;
