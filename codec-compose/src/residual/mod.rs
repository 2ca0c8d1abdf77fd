//! Two codecs in turn, `residual(first,second)`: the second encodes the error of the first, and a
//! decoder adds both.
//!
//! Examples: a low-rank matrix and a few bits for the rest; a coarse quantiser and a fine one for
//! its errors. The payload has quality levels: those of `first`, then those of `second`.
//!
//! # Source
//! Multistage quantisation: Juang and Gray, *Multiple stage vector quantization for speech coding*,
//! ICASSP 1982; for weights, low rank and a quantised rest as in LQER (arXiv 2402.02446, section
//! 3). Weights are nearly successively refinable: two levels take hardly more bits than one of the
//! same error (Equitz and Cover, *Successive refinement of information*, IEEE Trans. IT 37, 1991).
//!
//! # Sections
//! - `first/…`: the payload of `first` for the tensor;
//! - `second/…`: the payload of `second` for an F32 tensor of the same shape, with the values
//!   weight minus weight decoded by `first`.
//!
//! A weight is the f32 sum of both decoded values, clamped to the range of f32. A level of `first`
//! has the sections `first/…` of that level; a level of `second` needs all of `first`.
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
//! The sum of both costs. Codecs of variable rate may both allow for the bytes of the tensor; a
//! tensor that would take more than five quarters of its bytes and 4 KiB is refused. If both codecs
//! read ranges of rows, so does this one: `first` decodes to the output and `second`, a few rows at
//! a time, to a buffer. A thread allocates this buffer once; for rows of more than 2¹⁸ weights
//! every read allocates it. If both codecs have a linear operator, this codec has the sum of the
//! two.
//!
//! # Limits
//! F32, F16 and BF16, if `first` accepts the tensor and `second` an F32 tensor of its shape. Only
//! `first` gets a base tensor; both get the calibration. The codec is lossy even with exact codecs:
//! the sum is rounded.
//!
//! Chunks are cut as both allow. They share the statistics of `first`. The statistics of `second`
//! would be those of the rest of the whole tensor, which would have to be encoded for each pass; so
//! each chunk of `second` has its own. Where `first` has one step for the tensor, the rest has the
//! same error everywhere, and chunks find nearly the same statistics.
//!
//! The codec refuses a tensor if zeros would be nearer to it than the result of `first`, or if
//! `second` does not bring the result nearer: no level increases the error. The
//! tolerance of the linear operator holds up to a relative Frobenius error of one half
//! (`codec_api::Certificate`): beyond it the two parts may cancel out, and rounding errors are
//! relative to the parts.

mod levels;
mod linear;
mod rows;

use std::num::NonZeroUsize;

use codec_api::util::zeros;
use codec_api::{
    Certificate, Chunking, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel,
    Need, Needs, Payload, PayloadView, Preset, Progressive, Result, Rows, Surveyed, TensorSpec, TensorView,
    register_codec, typetag,
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

impl Residual {
    /// Bytes for each weight that an encode keeps besides the needs of the children.
    fn kept_per_weight(&self) -> u64 {
        8 + [&self.first, &self.second].iter().filter(|child| child.as_rows().is_none()).count() as u64 * 4
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
        let most = first.bytes.end().saturating_add(*second.bytes.end());
        let cost = CostEstimate::between(least, most.min(limit(spec)).max(least))
            .ops(
                first.encode_ops + first.decode_ops + second.encode_ops + 2.0 * n,
                first.decode_ops + second.decode_ops + n,
            )
            // An encoder keeps the weights as f32 and the rest, and decodes both children to check
            // the result; children that read no ranges of rows decode to a buffer. The larger of
            // the children's needs comes on top.
            .scratch(self.kept_per_weight() * spec.elements() as u64 + first.scratch_bytes.max(second.scratch_bytes));
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
        child_cx.shared = cx.shared.filter(|_| self.first.as_surveyed().is_some());
        let first = self.first.encode(tensor.clone(), &child_cx)?;
        let mut rest = zeros(values.len())?;
        self.first.decode(spec, first.view(), &cx.decoding(), &mut rest)?;
        let first_error = refuse_worse_than_zeros(&values, &rest)?;
        for (rest, w) in rest.iter_mut().zip(&*values) {
            // The difference of the two ends of f32 exceeds the range of f32.
            *rest = (w - *rest).clamp(f32::MIN, f32::MAX);
        }
        let mut child_cx = cx.for_child(SECOND);
        (child_cx.calibration, child_cx.progress) = (cx.calibration, cx.progress);
        let second = self.second.encode(TensorView::from_f32(spec.shape(), &rest)?, &child_cx)?;
        let payload = Payload::new().with_scope(FIRST, first)?.with_scope(SECOND, second)?;
        if payload.bytes() > *self.cost(spec).bytes.end() {
            let reason = "both codecs together take more bytes than the tensor; the ratio is".to_owned();
            return Err(CodecError::Unsuitable { reason, number: payload.bytes() as f64 / spec.byte_len() as f64 });
        }
        self.decode(spec, payload.view(), &cx.decoding(), &mut rest)?;
        refuse_worse_than_first(&values, &rest, first_error)?;
        Ok(payload)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        self.open(spec, payload, cx)?.read(0..spec.matrix().0, out)
    }

    fn as_progressive(&self) -> Option<&dyn Progressive> {
        Some(self)
    }

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        (self.first.as_surveyed().is_some() || self.second.as_surveyed().is_some()).then_some(self)
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

/// Most bytes of a payload, unless its codecs always take more.
fn limit(spec: &TensorSpec) -> u64 {
    let bytes = spec.byte_len() as u64;
    bytes.saturating_add(bytes / 4).saturating_add(4096)
}

/// Refuses the result of `first` if zeros would be nearer to the weights. Rounding errors are
/// relative to the numbers of this result and could exceed every weight. Returns its squared error.
fn refuse_worse_than_zeros(values: &[f32], decoded: &[f32]) -> Result<f64> {
    let certificate = Certificate::measure(values, decoded);
    if certificate.is_valid() && certificate.squared_error <= certificate.energy {
        return Ok(certificate.squared_error);
    }
    let reason = "zeros would be nearer to this tensor than the weights of the first codec; \
                  the squared error divided by the squared weights is";
    Err(CodecError::Unsuitable { reason: reason.to_owned(), number: certificate.nmse() })
}

/// Refuses a sum that has a larger squared error than the result of `first`.
fn refuse_worse_than_first(values: &[f32], decoded: &[f32], first: f64) -> Result<()> {
    let certificate = Certificate::measure(values, decoded);
    if certificate.squared_error <= first {
        return Ok(());
    }
    let reason = "the first codec alone would be nearer to this tensor than both together; \
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
        "residual(quant.int:group=tensor,residual(quant.int:bits=4,quant.int:bits=4))",
        "residual(trellis:bits=2,residual(trellis:bits=1,trellis:bits=1))",
    ];
    specs.map(str::to_owned).into()
}

register_codec!("residual", "a codec for what another one leaves", presets, .children(&["first", "second"]).probes(probes));
