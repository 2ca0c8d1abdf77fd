//! Errors of codecs, codec texts and encoded files.

use std::error::Error;
use std::fmt::Write;

/// Result of the methods of a codec.
pub type Result<T, E = CodecError> = std::result::Result<T, E>;

/// Why a codec could not encode or decode.
///
/// A codec refuses a tensor with [`CodecError::Unsupported`] because of its dtype or shape, and
/// with [`CodecError::Unsuitable`] because of its values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The codec does not support the dtype or shape.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The format of the codec cannot hold the values.
    #[error("unsuitable: {reason} ({number})")]
    Unsuitable {
        /// What does not fit, and what would.
        reason: String,
        /// The number behind the refusal; `reason` explains it.
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
    /// The payload lacks a section.
    #[error("missing section `{0}`")]
    MissingSection(String),
    /// The codec needs a base tensor, but got none or a different one.
    #[error("missing base tensor{}: {}; give that base (`--base`)", of_id(.wanted.as_ref()), found(.given.as_ref()))]
    MissingBase {
        /// Id of the base that the payload names ([`crate::BaseTensor::id`]); `None` in an encode.
        wanted: Option<[u8; 32]>,
        /// Id of the base that was given.
        given: Option<[u8; 32]>,
    },
    /// The codec needs calibration.
    #[error("missing calibration: this codec weights its errors by it")]
    MissingCalibration,
    /// The caller's arguments do not fit together, for example a buffer of the wrong length.
    #[error("wrong use: {0}")]
    Usage(String),
    /// A size exceeds what this program handles, what [`crate::DecodeCx::output_limit`] allows, or
    /// the free memory.
    #[error("limit: {0}")]
    Limit(String),
    /// A lossy codec found a NaN or an infinity.
    #[error(
        "the value at flat index {index} is not finite: a lossy codec cannot bound its error; use an exact codec such as `lossless.zstd`"
    )]
    NonFinite {
        /// Row-major index of the first non-finite value.
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

    /// Whether the codec refused the tensor, as opposed to a failure.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unsupported(_) | Self::Unsuitable { .. })
    }
}

fn of_id(id: Option<&[u8; 32]>) -> String {
    id.map_or_else(String::new, |id| format!(" with blake3 {}", hex(id)))
}

fn found(id: Option<&[u8; 32]>) -> String {
    id.map_or_else(|| "none is given".to_owned(), |id| format!("the one given has {}", hex(id)))
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why the text form of a codec (command-line spec or JSON header) was refused.
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
        /// All preset names of the codec.
        known: String,
    },
    /// A key or a value is wrong.
    #[error("codec `{id}`: {reason}")]
    Config {
        /// The codec.
        id: String,
        /// The key, the value found and the values allowed.
        reason: String,
    },
    /// Codecs are nested deeper than [`crate::MAX_NESTING`].
    #[error("codecs are nested more than {} deep", crate::MAX_NESTING)]
    TooDeep,
}

/// Why bytes could not be read as an [`crate::EncodedTensor`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes are not a valid safetensors file.
    #[error("not a readable safetensors file: {0}")]
    Container(String),
    /// A safetensors file whose Netweight metadata is missing or invalid.
    #[error("metadata `netweight`: {0}")]
    Metadata(String),
    /// The codec header was refused.
    #[error("codec header: {0}")]
    Header(#[from] SpecError),
    /// The tensor's dtype and shape contradict each other.
    #[error(transparent)]
    Tensor(#[from] CodecError),
}
