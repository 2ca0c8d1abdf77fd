//! Why calibration failed.

use codec_api::CodecError;

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a curvature cannot be used, or an encode with feedback failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A curvature has a NaN or an infinity.
    #[error("entry ({row}, {column}) of the curvature is not finite: the model's activations or gradients overflow")]
    NotFinite {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
    },
    /// A curvature is not positive definite.
    #[error("the curvature is not positive definite at index {index}; more damping or more text is needed")]
    Singular {
        /// Index of the pivot that is not positive.
        index: usize,
    },
    /// A curvature is zero: no token reached the layer.
    #[error("the curvature is zero: no input of the calibration reached this layer")]
    Zero,
    /// Sizes do not fit together.
    #[error("wrong use: {0}")]
    Usage(String),
    /// A file of statistics.
    #[error("`{path}`: {reason}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it, and the remedy.
        reason: String,
    },
    /// A tensor whose curvature cannot be used.
    #[error("tensor `{tensor}`: {error}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// Why.
        error: Box<Error>,
    },
    /// The model could not be run.
    #[error(transparent)]
    Runtime(Box<runtime::Error>),
    /// The files of the model.
    #[error(transparent)]
    Checkpoint(Box<checkpoint::Error>),
    /// The codec failed, or refused the tensor.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Error {
    /// The same error of this tensor.
    pub(crate) fn of(self, tensor: &str) -> Self {
        Self::Tensor { tensor: tensor.to_owned(), error: Box::new(self) }
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(Box::new(error))
    }
}

impl From<checkpoint::Error> for Error {
    fn from(error: checkpoint::Error) -> Self {
        Self::Checkpoint(Box::new(error))
    }
}
