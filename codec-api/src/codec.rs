//! The trait that every compression method implements, and its optional extensions.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use crate::context::{DecodeCx, EncodeCx};
use crate::cost::CostEstimate;
use crate::error::{CodecError, Result};
use crate::payload::{Payload, PayloadView};
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

    /// Checks whether the codec accepts tensors of this dtype and shape; reads no data.
    ///
    /// # Errors
    /// [`crate::CodecError::Unsupported`] with the reason if it does not.
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        let _ = spec;
        Ok(())
    }

    /// How a large tensor may be divided into chunks before encoding.
    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        let _ = spec;
        Chunking::Rows(NonZeroUsize::MIN)
    }

    /// Predicted payload size and work for a tensor of this spec; reads no data.
    fn cost(&self, spec: &TensorSpec) -> CostEstimate;

    /// Encodes a tensor whose spec [`Codec::accepts`] has accepted.
    ///
    /// # Errors
    /// A refusal because of the values, a missing base or calibration, or cancellation.
    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload>;

    /// Decodes to f32, row-major. `out` has exactly `spec.elements()` elements.
    ///
    /// # Errors
    /// [`crate::CodecError::Corrupt`] or [`crate::CodecError::Missing`] if the payload does not
    /// belong to this codec and spec. Never a panic, whatever the bytes are.
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

    /// The linear operator of a codec whose payload multiplies vectors without a dense copy; `None`
    /// without one.
    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        None
    }
}

impl dyn Codec + '_ {
    /// Like [`Codec::as_lossless`], but an error if the codec is not lossless.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] naming the codec.
    pub fn require_lossless(&self) -> Result<&dyn Lossless> {
        let lossless = self.as_lossless();
        lossless.ok_or_else(|| CodecError::Unsupported(format!("`{}` is not lossless", self.typetag_name())))
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
    /// The levels of a payload for this spec, coarsest first. Level `n` decodes
    /// ([`DecodeCx::level`]) from the sections of levels `0..=n` alone.
    fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel>;

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
    /// Names of these sections.
    pub sections: Vec<String>,
    /// Total bytes of these sections, as [`CostEstimate::bytes`] for the whole payload.
    pub bytes: RangeInclusive<u64>,
}

impl QualityLevel {
    /// A level with these sections and their total size.
    pub fn new(sections: Vec<String>, bytes: RangeInclusive<u64>) -> Self {
        Self { sections, bytes }
    }
}

/// Multiplication by the encoded matrix.
pub trait LinearKernel {
    /// Prepares an operator `y = W·x` from the payload. `W` is the matrix view of the tensor
    /// ([`TensorSpec::matrix`]): rows are outputs, columns are inputs. The operator keeps no dense
    /// copy of `W`.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>>;
}

/// A prepared operator `y = W·x`.
pub trait LinearOp: Debug + Send + Sync {
    /// Multiplies a batch of row vectors: `x` is `batch × inputs`, `y` is `batch × outputs`,
    /// row-major.
    ///
    /// # Errors
    /// [`crate::CodecError::Limit`] if the lengths do not match; see [`check_batch`].
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()>;

    /// Tolerance `t` of [`Self::apply`] against the decoded matrix Ŵ: every `|yᵢ − (Ŵx)ᵢ|` is at
    /// most `t · max(sᵢ, m)`, where `sᵢ = Σⱼ |ŵᵢⱼ xⱼ|` and `m` is the mean of `sᵢ` over all rows.
    /// The mean is there because the parts of a factored or composed matrix may cancel in a row,
    /// while their rounding errors do not.
    fn tolerance(&self) -> f32;

    /// Heap and memory-mapped bytes that the operator keeps for the weights.
    fn resident_bytes(&self) -> u64;
}

/// Checks the lengths of the arguments of [`LinearOp::apply`] for a matrix of `(rows, columns)`.
///
/// # Errors
/// [`CodecError::Limit`] with all sizes unless `x` has `batch · columns` and `y` has `batch · rows`
/// elements for the same `batch`.
pub fn check_batch((rows, columns): (usize, usize), x: &[f32], y: &[f32]) -> Result<()> {
    let batch = y.len().checked_div(rows).unwrap_or(0);
    if x.len() == batch * columns && y.len() == batch * rows {
        return Ok(());
    }
    let reason = format!("{} inputs and {} outputs for a matrix of {rows} x {columns}", x.len(), y.len());
    Err(CodecError::Limit(reason))
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
