//! The trait every compression method implements, and the facets that only some have.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use crate::context::{DecodeCx, EncodeCx};
use crate::cost::CostEstimate;
use crate::error::{CodecError, Result};
use crate::payload::{Payload, PayloadView};
use crate::tensor::{TensorSpec, TensorView};

/// A configured compression method. Its serialised form (`{"codec":"quant.int","version":1,"bits":4}`)
/// is the header of what it encodes, so decoding needs nothing but header, spec and payload.
///
/// A codec is single-threaded and a pure function of its arguments: callers run chunks in parallel.
#[typetag::serde(tag = "codec")]
pub trait Codec: Debug + Send + Sync {
    /// What it needs beside the tensor.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Whether it takes tensors of this dtype and shape; reads no data.
    ///
    /// # Errors
    /// [`crate::CodecError::Unsupported`] with the reason.
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        let _ = spec;
        Ok(())
    }

    /// How a large tensor may be cut before encoding.
    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        let _ = spec;
        Chunking::Rows(NonZeroUsize::MIN)
    }

    /// Size and work for a tensor of this spec; reads no data.
    fn cost(&self, spec: &TensorSpec) -> CostEstimate;

    /// Encodes a tensor that [`Codec::accepts`] takes.
    ///
    /// # Errors
    /// A refusal by the data, missing context, or cancellation.
    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload>;

    /// Decodes to f32, row-major; `out` has exactly `spec.elements()` places.
    ///
    /// # Errors
    /// [`crate::CodecError::Corrupt`] or [`crate::CodecError::Missing`] if the payload is not one of this
    /// codec and spec; never a panic, whatever the bytes.
    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()>;

    /// The codec as one that restores every bit of every dtype, or of those that it is [registered for alone](crate::CodecEntry::only).
    fn as_lossless(&self) -> Option<&dyn Lossless> {
        None
    }

    /// The codec as one whose payload has nested quality levels.
    fn as_progressive(&self) -> Option<&dyn Progressive> {
        None
    }

    /// The codec as one whose payload multiplies vectors without a dense copy.
    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        None
    }
}

impl dyn Codec + '_ {
    /// [`Codec::as_lossless`], for those who need it.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] naming the codec.
    pub fn require_lossless(&self) -> Result<&dyn Lossless> {
        let lossless = self.as_lossless();
        lossless.ok_or_else(|| CodecError::Unsupported(format!("`{}` is not lossless", self.typetag_name())))
    }

    /// [`Codec::as_linear`], for those who need it.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] naming the codec.
    pub fn require_linear(&self) -> Result<&dyn LinearKernel> {
        let linear = self.as_linear();
        linear.ok_or_else(|| CodecError::Unsupported(format!("`{}` has no linear operator", self.typetag_name())))
    }
}

/// Restores the stored bytes.
pub trait Lossless {
    /// Decodes to the tensor's own dtype; `out` has exactly `spec.byte_len()` bytes.
    ///
    /// # Errors
    /// As [`Codec::decode`]; a checksum turns every changed bit into an error.
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()>;
}

/// A payload that decodes from a prefix of its levels, better with each.
pub trait Progressive {
    /// The levels of a tensor's payload, coarsest first. Level `n` decodes ([`DecodeCx::level`]) from the sections of
    /// levels `0..=n` alone.
    fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel>;

    /// The best level that a reader with a budget of `bytes` of section data can count on; `None` if not even level 0 fits.
    fn level_within(&self, spec: &TensorSpec, bytes: u64) -> Option<usize> {
        let mut needed = 0u64;
        let fits = |level: &&QualityLevel| {
            needed = needed.saturating_add(*level.bytes.end());
            needed <= bytes
        };
        self.levels(spec).iter().take_while(fits).count().checked_sub(1)
    }
}

/// What one quality level adds to a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QualityLevel {
    /// Names of its sections.
    pub sections: Vec<String>,
    /// Bytes of these sections together, as [`CostEstimate::bytes`] for the whole.
    pub bytes: RangeInclusive<u64>,
}

impl QualityLevel {
    /// A level of these sections.
    pub fn new(sections: Vec<String>, bytes: RangeInclusive<u64>) -> Self {
        Self { sections, bytes }
    }
}

/// Multiplies with the encoded matrix.
pub trait LinearKernel {
    /// Makes an operator `y = W·x` from the payload; `W` is the tensor's matrix view
    /// ([`TensorSpec::matrix`]): rows are outputs, columns inputs. It keeps no dense copy of `W`.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>>;
}

/// A prepared operator `y = W·x`.
pub trait LinearOp: Debug + Send + Sync {
    /// Multiplies a batch of row vectors: `x` is `batch × inputs`, `y` is `batch × outputs`, row-major.
    ///
    /// # Errors
    /// [`crate::CodecError::Limit`] if the lengths do not agree.
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()>;

    /// Stated tolerance: every `|yᵢ − (Ŵx)ᵢ|` is at most this times `Σⱼ |ŵᵢⱼ xⱼ|`, or times the mean of these sums over all rows if that
    /// is larger, for the decoded Ŵ. (The parts of a factored or composed matrix may cancel in a row; their rounding does not.)
    fn tolerance(&self) -> f32;

    /// Heap and mapped bytes that the operator keeps for the weights.
    fn resident_bytes(&self) -> u64;
}

/// Checks the lengths that [`LinearOp::apply`] is given for a matrix of `(rows, columns)`.
///
/// # Errors
/// [`CodecError::Limit`] with all sizes if `x` and `y` are not as many whole vectors of inputs as of outputs.
pub fn check_batch((rows, columns): (usize, usize), x: &[f32], y: &[f32]) -> Result<()> {
    let batch = y.len().checked_div(rows).unwrap_or(0);
    if x.len() == batch * columns && y.len() == batch * rows {
        return Ok(());
    }
    let reason = format!("{} inputs and {} outputs for a matrix of {rows} x {columns}", x.len(), y.len());
    Err(CodecError::Limit(reason))
}

/// Whether a codec needs something beside the tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// It makes no use of it.
    #[default]
    No,
    /// It does better with it.
    Uses,
    /// It does not work without it.
    Requires,
}

/// What a codec needs beside the tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// A base tensor, at encode and at decode.
    pub base: Need,
    /// Calibration, at encode.
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

    /// Refuses a child codec that does not work without base or calibration, for composites that cannot hand it those.
    ///
    /// # Errors
    /// [`crate::CodecError::Unsupported`] naming what the child needs.
    pub fn require_nothing(self) -> Result<()> {
        let what = match (self.base, self.calibration) {
            (Need::Requires, _) => "a base tensor",
            (_, Need::Requires) => "calibration",
            _ => return Ok(()),
        };
        Err(CodecError::Unsupported(format!("the inner codec needs {what}, and there is none for what it would code")))
    }
}

/// How a tensor may be cut into chunks that are encoded on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// At multiples of this many rows of the matrix view.
    Rows(NonZeroUsize),
    /// Not at all.
    Whole,
}
