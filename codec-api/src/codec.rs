//! The trait that every compression method implements, and its optional extensions.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use crate::context::{DecodeCx, EncodeCx};
use crate::cost::CostEstimate;
use crate::error::{CodecError, Result};
use crate::linear::LinearKernel;
use crate::panels::Panels;
use crate::payload::{Payload, PayloadView};
use crate::rows::Rows;
use crate::survey::Surveyed;
use crate::tensor::{TensorSpec, TensorView};

/// A configured compression method. Its serialised form
/// (`{"codec":"quant.int","version":1,"bits":4}`) is the header of every tensor that it encodes:
/// header, spec and payload (and the base tensor, if the codec needs one) suffice for decoding.
///
/// A codec is single-threaded and a pure function of its arguments. Callers may encode chunks in
/// parallel ([`Codec::chunking`]).
#[typetag::serde(tag = "codec")]
pub trait Codec: Debug + Send + Sync {
    /// What the codec needs besides the tensor.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// The child codecs of a composite, each with its field of the configuration, which is also the
    /// scope of its sections ([`crate::CodecEntry::children`]).
    fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
        Vec::new()
    }

    /// Checks whether the codec accepts tensors of this dtype and shape; reads no data.
    ///
    /// # Errors
    /// [`crate::CodecError::Unsupported`] with the reason if it does not.
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        let _ = spec;
        Ok(())
    }

    /// How a large tensor may be divided into chunks before encoding. If the codec uses statistics
    /// of the whole tensor, all chunks share these statistics ([`Codec::as_surveyed`]).
    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        let _ = spec;
        Chunking::Rows(NonZeroUsize::MIN)
    }

    /// Predicted payload size and work for a tensor of this spec; reads no data.
    fn cost(&self, spec: &TensorSpec) -> CostEstimate;

    /// Encodes a tensor whose spec [`Codec::accepts`] has accepted. The caller measures the error
    /// ([`crate::EncodedTensor::encode`]).
    ///
    /// # Errors
    /// A refusal because of the values, a missing base or calibration, or cancellation.
    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload>;

    /// Decodes to f32, row-major. `out` has exactly `spec.elements()` elements.
    ///
    /// # Errors
    /// [`crate::CodecError::Corrupt`] or [`crate::CodecError::MissingSection`] if the payload does
    /// not belong to this codec and spec. Never a panic, whatever the bytes are.
    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()>;

    /// The exact decoder of a codec that restores every bit of the stored dtype. An exact codec
    /// accepts every dtype, unless it is [registered for some dtypes
    /// only](crate::CodecEntry::only). `None` for a lossy codec.
    fn as_lossless(&self) -> Option<&dyn Lossless> {
        None
    }

    /// The quality levels of a codec with progressive payloads; `None` without levels.
    fn as_progressive(&self) -> Option<&dyn Progressive> {
        None
    }

    /// Reads ranges of rows of a payload; `None` if the codec must decode all rows to return any of
    /// them. [`crate::open_rows`] reads rows with every codec.
    fn as_rows(&self) -> Option<&dyn Rows> {
        None
    }

    /// The passes that find statistics of the whole tensor; `None` if chunks share no statistics.
    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        None
    }

    /// The encoder that works column by column; `None` if the codec has none.
    fn as_panels(&self) -> Option<&dyn Panels> {
        None
    }

    /// The linear operator that multiplies with the payload itself, faster than with decoded rows;
    /// `None` if the codec has none.
    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        None
    }
}

impl dyn Codec + '_ {
    /// The quality levels of a payload for this spec, coarsest first: one with all sections if the
    /// codec has no levels.
    pub fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel> {
        let levels = self.as_progressive().map(|progressive| progressive.levels(spec));
        levels.unwrap_or_else(|| vec![QualityLevel::new(vec![String::new()], self.cost(spec).bytes)])
    }

    /// Decodes levels `0..=level` of `levels`, as [`Progressive::decode_level`].
    ///
    /// # Errors
    /// As [`Codec::decode`]; [`CodecError::Usage`] if there is no such level.
    pub fn decode_level(
        &self,
        level: usize,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        match (self.as_progressive(), level) {
            (Some(progressive), _) => progressive.decode_level(level, spec, payload, cx, out),
            (None, 0) => self.decode(spec, payload, cx, out),
            (None, _) => Err(CodecError::Usage(format!("level {level}: the only level is 0"))),
        }
    }

    /// Like [`Codec::as_lossless`], but an error if the codec is not lossless.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] naming the codec.
    pub fn require_lossless(&self) -> Result<&dyn Lossless> {
        let lossless = self.as_lossless();
        lossless.ok_or_else(|| CodecError::Unsupported(format!("`{}` is not lossless", self.typetag_name())))
    }

    /// Like [`Codec::as_progressive`], but an error if the codec has no quality levels.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] naming the codec.
    pub fn require_progressive(&self) -> Result<&dyn Progressive> {
        let progressive = self.as_progressive();
        progressive.ok_or_else(|| CodecError::Unsupported(format!("`{}` has no quality levels", self.typetag_name())))
    }

    /// Like [`Codec::as_linear`], but an error if the codec has no linear operator.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] naming the codec.
    pub fn require_linear(&self) -> Result<&dyn LinearKernel> {
        let linear = self.as_linear();
        linear.ok_or_else(|| CodecError::Unsupported(format!("`{}` has no linear operator", self.typetag_name())))
    }
}

/// Decoder that restores the stored bytes.
pub trait Lossless {
    /// Decodes to the stored dtype. `out` has exactly `spec.byte_len()` bytes.
    ///
    /// # Errors
    /// As [`Codec::decode`]. A checksum ensures that every changed bit is an error.
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()>;
}

/// A codec whose payload decodes from a prefix of its quality levels; each further level reduces
/// the error.
pub trait Progressive {
    /// The levels of a payload for this spec, coarsest first.
    fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel>;

    /// Decodes levels `0..=level` from the sections of these levels alone. Apart from the choice of
    /// levels, it works like [`Codec::decode`], which decodes all levels.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    fn decode_level(
        &self,
        level: usize,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()>;

    /// The best level that fits into `bytes` bytes of section data for every tensor of this spec;
    /// `None` if not even level 0 does.
    fn level_within(&self, spec: &TensorSpec, bytes: u64) -> Option<usize> {
        let mut needed = 0u64;
        let fits = |level: &&QualityLevel| {
            needed = needed.saturating_add(*level.bytes.end());
            needed <= bytes
        };
        self.levels(spec).iter().take_while(fits).count().checked_sub(1)
    }
}

/// The sections that one quality level adds to a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QualityLevel {
    /// Names of these sections. A name that is empty or ends with `/` stands for all sections whose
    /// names begin with it: those of a child codec, which may depend on the data.
    pub sections: Vec<String>,
    /// Total bytes of these sections, as [`CostEstimate::bytes`] for the whole payload.
    pub bytes: RangeInclusive<u64>,
}

impl QualityLevel {
    /// A level with these sections and their total size.
    pub fn new(sections: Vec<String>, bytes: RangeInclusive<u64>) -> Self {
        Self { sections, bytes }
    }

    /// The level of a child codec, as a level of its composite ([`Payload::with_scope`]).
    #[must_use]
    pub fn scoped(self, scope: &str) -> Self {
        Self { sections: self.sections.iter().map(|name| format!("{scope}/{name}")).collect(), ..self }
    }

    /// Whether the level has the section of this name.
    pub fn has(&self, section: &str) -> bool {
        self.sections.iter().any(|name| {
            name == section || (name.is_empty() || name.ends_with('/')) && section.starts_with(name.as_str())
        })
    }
}

/// How much a codec depends on an optional input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The codec ignores it.
    #[default]
    No,
    /// The codec gives better results with it.
    Uses,
    /// The codec does not work without it.
    Requires,
}

/// What a codec needs besides the tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// A base tensor, for encode and decode.
    pub base: Need,
    /// Calibration, for encode.
    pub calibration: Need,
}

impl Needs {
    /// Sets the need for a base tensor.
    #[must_use]
    pub fn base(mut self, need: Need) -> Self {
        self.base = need;
        self
    }

    /// Sets the need for calibration.
    #[must_use]
    pub fn calibration(mut self, need: Need) -> Self {
        self.calibration = need;
        self
    }

    /// For composites that cannot provide a base tensor or calibration to their child: refuses a
    /// child codec that requires one.
    ///
    /// # Errors
    /// [`crate::CodecError::Unsupported`] naming what the child requires.
    pub fn require_nothing(self) -> Result<()> {
        let what = match (self.base, self.calibration) {
            (Need::Requires, _) => "a base tensor",
            (_, Need::Requires) => "calibration",
            _ => return Ok(()),
        };
        Err(CodecError::Unsupported(format!("the inner codec needs {what}, which its outer codec cannot provide")))
    }
}

/// How a tensor may be divided into chunks that are encoded independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// Between rows whose index in the matrix view is a multiple of this number.
    Rows(NonZeroUsize),
    /// Not at all.
    Whole,
}
