//! What can go wrong between a tensor and its payload.

use std::error::Error;

/// Result of a codec's methods.
pub type Result<T, E = CodecError> = std::result::Result<T, E>;

/// Why a codec did not encode or decode.
///
/// A refusal is [`CodecError::Unsupported`] when the tensor's dtype or shape decides it, and
/// [`CodecError::Unsuitable`] when its values do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The dtype or shape is outside what the codec handles.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The values are outside what the codec's format can hold.
    #[error("unsuitable: {reason} ({number})")]
    Unsuitable {
        /// What does not fit, and what does.
        reason: String,
        /// The figure that decided it, as `reason` introduces it.
        number: f64,
    },
    /// A section's dtype, shape, length or content contradicts the format.
    #[error("section `{section}` is corrupt: {reason}")]
    Corrupt {
        /// Full name of the section.
        section: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A section, a base tensor or calibration data that is needed is not there.
    #[error("missing {0}")]
    Missing(String),
    /// A size is beyond what this program handles or what the caller provided.
    #[error("limit: {0}")]
    Limit(String),
    /// A lossy codec met a NaN or an infinity.
    #[error(
        "the value at flat index {index} is not finite: a lossy codec cannot bound its error; use an exact codec such as `lossless.zstd`"
    )]
    NonFinite {
        /// Row-major index of the first such value.
        index: usize,
    },
    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
    /// An error of a library that the codec uses.
    #[error(transparent)]
    Codec(Box<dyn Error + Send + Sync>),
}

impl CodecError {
    /// A [`CodecError::Corrupt`] for `section`.
    pub fn corrupt(section: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt { section: section.into(), reason: reason.into() }
    }

    /// Wraps an error of a library that the codec uses.
    pub fn codec(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Codec(Box::new(source))
    }

    /// Whether this is a refusal (the codec is not for this tensor) and not a failure.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unsupported(_) | Self::Unsuitable { .. })
    }
}

/// Why a codec's text form (command-line spec or JSON header) was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The text does not follow the grammar.
    #[error("cannot read codec spec `{spec}`: {reason}")]
    Syntax {
        /// The text as given.
        spec: String,
        /// Where and why reading stopped.
        reason: String,
    },
    /// No linked codec has this id.
    #[error("unknown codec `{id}`; the linked codecs are: {known}")]
    UnknownCodec {
        /// The id as given.
        id: String,
        /// All registered ids.
        known: String,
    },
    /// The codec has no preset of this name.
    #[error("codec `{id}` has no preset `{name}`; its presets are: {known}")]
    UnknownPreset {
        /// The codec.
        id: String,
        /// The name as given.
        name: String,
        /// All presets of the codec.
        known: String,
    },
    /// A key or a value is wrong.
    #[error("codec `{id}`: {reason}")]
    Config {
        /// The codec.
        id: String,
        /// Key, what was found there, and what is allowed.
        reason: String,
    },
    /// Codecs are nested more deeply than [`crate::MAX_NESTING`].
    #[error("codecs are nested more than {} deep", crate::MAX_NESTING)]
    TooDeep,
}

/// Why bytes could not be read as an [`crate::EncodedTensor`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes are no valid safetensors file.
    #[error("not a readable safetensors file: {0}")]
    Container(String),
    /// It is a safetensors file without (valid) Netweight metadata.
    #[error("metadata `netweight`: {0}")]
    Metadata(String),
    /// The codec header was refused.
    #[error("codec header: {0}")]
    Header(#[from] SpecError),
    /// The tensor's dtype and shape contradict each other.
    #[error(transparent)]
    Tensor(#[from] CodecError),
}
