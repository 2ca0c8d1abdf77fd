//! Two codecs in turn, `residual(first,second)`: the second encodes the error of the first, and a
//! decoder adds both.
//!
//! Examples: a low-rank matrix and a few bits for the rest; a coarse quantiser and a fine one for
//! its errors.
//!
//! # Source
//! Multistage quantisation: Juang and Gray, *Multiple stage vector quantization for speech coding*,
//! ICASSP 1982; for weights, low rank and a quantised rest as in LQER (arXiv 2402.02446, section
//! 3).
//!
//! # Sections
//! - `first/…`: the payload of `first` for the tensor;
//! - `second/…`: the payload of `second` for an F32 tensor of the same shape, with the values
//!   weight minus weight decoded by `first`.
//!
//! A weight is the f32 sum of both decoded values, clamped to the range of f32.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"residual","version":1,"#,
//!     r#""first":{"codec":"lossless.raw","version":1},"#,
//!     r#""second":{"codec":"lossless.raw","version":1}}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_compose as _;
//! # use codec_lossless as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! The error of `second` on the rest, and the rounding of one sum.
//!
//! # Cost
//! The sum of both costs. If both codecs read ranges of rows, so does this one: `first` decodes to
//! the output and `second`, a few rows at a time, to a buffer. A thread allocates this buffer once;
//! for rows of more than 2¹⁸ weights every read allocates it. If both codecs have a linear
//! operator, this codec has the sum of the two.
//!
//! # Limits
//! F32, F16 and BF16, if `first` accepts the tensor and `second` an F32 tensor of its shape. Only
//! `first` gets a base tensor; both get the calibration. The codec is lossy even with exact codecs:
//! the sum is rounded. Chunks are cut as both allow, unless they share statistics of the whole
//! tensor.
//!
//! The codec refuses a tensor if zeros would be nearer to it than the result of `first`. The
//! tolerance of the linear operator holds up to a relative Frobenius error of one half
//! (`codec_api::Certificate`): beyond it the two parts may cancel out, and rounding errors are
//! relative to the parts.

mod linear;
mod rows;

use std::num::NonZeroUsize;

use codec_api::util::zeros;
use codec_api::{
    Certificate, Chunking, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel,
    Need, Needs, Payload, PayloadView, Preset, Result, Rows, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

const FIRST: &str = "first";
const SECOND: &str = "second";

/// Configuration of `residual`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Residual {
    /// Format version.
    #[serde(default)]
    pub version: FormatVersion<1>,
    /// Encodes the weights.
    pub first: Box<dyn Codec>,
    /// Encodes the error of `first`.
    pub second: Box<dyn Codec>,
}

impl Residual {
    /// Creates the codec; `second` encodes the error of `first`.
    pub fn new(first: Box<dyn Codec>, second: Box<dyn Codec>) -> Self {
        Self { version: FormatVersion, first, second }
    }
}

/// The spec of the rest, which `second` encodes.
fn rest_spec(spec: &TensorSpec) -> Result<TensorSpec> {
    TensorSpec::new(Dtype::F32, spec.shape())
}

#[typetag::serde(name = "residual")]
impl Codec for Residual {
    fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
        vec![(FIRST, &*self.first), (SECOND, &*self.second)]
    }

    fn needs(&self) -> Needs {
        let (first, second) = (self.first.needs(), self.second.needs());
        first.calibration(first.calibration.max(second.calibration))
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        self.first.accepts(spec)?;
        self.second.needs().calibration(Need::No).require_nothing()?;
        self.second.accepts(&rest_spec(spec)?)
    }

    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        if self.first.as_surveyed().is_some() || self.second.as_surveyed().is_some() {
            // Chunks would not share the statistics of the tensor and of the rest.
            return Chunking::Whole;
        }
        let second = rest_spec(spec).map_or(Chunking::Whole, |rest| self.second.chunking(&rest));
        match (self.first.chunking(spec), second) {
            (Chunking::Rows(a), Chunking::Rows(b)) => lcm(a, b).map_or(Chunking::Whole, Chunking::Rows),
            _ => Chunking::Whole,
        }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let first = self.first.cost(spec);
        let Ok(rest) = rest_spec(spec) else { return first };
        let second = self.second.cost(&rest);
        let n = spec.elements() as f64;
        let least = first.bytes.start().saturating_add(*second.bytes.start());
        let cost = CostEstimate::between(least, first.bytes.end().saturating_add(*second.bytes.end()))
            .ops(
                first.encode_ops + first.decode_ops + second.encode_ops + 2.0 * n,
                first.decode_ops + second.decode_ops + n,
            )
            // An encoder keeps the weights as f32 and the rest, a decoder the weights of children
            // that read no ranges of rows; and the larger of the children's needs.
            .scratch(8 * spec.elements() as u64 + first.scratch_bytes.max(second.scratch_bytes));
        match (first.expected_rel_rmse, second.expected_rel_rmse) {
            (Some(a), Some(b)) => cost.rel_rmse(a * b),
            _ => cost,
        }
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let spec = tensor.spec();
        let values = tensor.to_finite_f32()?;
        let mut child_cx = cx.for_child(FIRST);
        (child_cx.base, child_cx.calibration) = (cx.base.clone(), cx.calibration);
        let first = self.first.encode(tensor.clone(), &child_cx)?;
        let mut rest = zeros(values.len())?;
        self.first.decode(spec, first.view(), &cx.decoding(), &mut rest)?;
        refuse_worse_than_zeros(&values, &rest)?;
        for (rest, w) in rest.iter_mut().zip(&*values) {
            // The difference of the two ends of f32 exceeds the range of f32.
            *rest = (w - *rest).clamp(f32::MIN, f32::MAX);
        }
        let mut child_cx = cx.for_child(SECOND);
        (child_cx.calibration, child_cx.progress) = (cx.calibration, cx.progress);
        let second = self.second.encode(TensorView::from_f32(spec.shape(), &rest)?, &child_cx)?;
        Payload::new().with_scope(FIRST, first)?.with_scope(SECOND, second)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        self.open(spec, payload, cx)?.read(0..spec.matrix().0, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        (self.first.as_rows().is_some() && self.second.as_rows().is_some()).then_some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        // Without an operator in either part, the sums of rows multiply as fast.
        let parts = [&self.first, &self.second];
        let compact = parts.iter().all(|part| part.as_linear().is_some() || part.as_rows().is_some());
        (compact && parts.iter().any(|part| part.as_linear().is_some())).then_some(self)
    }
}

/// Refuses the result of `first` if zeros would be nearer to the weights. Rounding errors are
/// relative to the numbers of this result and could exceed every weight.
fn refuse_worse_than_zeros(values: &[f32], decoded: &[f32]) -> Result<()> {
    let certificate = Certificate::measure(values, decoded);
    if certificate.is_valid() && certificate.squared_error <= certificate.energy {
        return Ok(());
    }
    let reason = "zeros would be nearer to this tensor than the weights of the first codec; \
                  the squared error divided by the squared weights is";
    Err(CodecError::Unsuitable { reason: reason.to_owned(), number: certificate.nmse() })
}

/// The least common multiple.
fn lcm(a: NonZeroUsize, b: NonZeroUsize) -> Option<NonZeroUsize> {
    let (mut x, mut y) = (a.get(), b.get());
    while y != 0 {
        (x, y) = (y, x % y);
    }
    NonZeroUsize::new(a.get() / x)?.checked_mul(b)
}

/// The granule of two codecs together.
fn common(a: NonZeroUsize, b: NonZeroUsize) -> NonZeroUsize {
    lcm(a, b).unwrap_or(a)
}

/// The presets use codecs of other crates; the registry keeps those of linked crates.
fn presets() -> Vec<Preset> {
    const INT4: &str = "residual(\
        quant.int:bits=4:group=128:symmetric=false,quant.int:bits=4:group=128:symmetric=false)";
    const LOW_RANK: &str = "residual(lowrank.svd(quant.int:bits=8:group=row):energy=0.9999,quant.int:bits=3:group=row)";
    vec![Preset::from_spec("int4-int4", INT4), Preset::from_spec("lowrank-int3", LOW_RANK)]
}

fn probes() -> Vec<String> {
    let specs = [
        "residual(quant.int:bits=8,quant.int:bits=8)",
        "residual(quant.ternary,residual(quant.int:bits=4,quant.int:bits=4))",
        "residual(sparse.prune:density=0.05,quant.int:bits=3)",
        "residual(quant.cast:to=bf16,quant.cast:to=bf16)",
    ];
    specs.map(str::to_owned).into()
}

register_codec!("residual", "a codec for what another one leaves", presets, .children(&["first", "second"]).probes(probes));
