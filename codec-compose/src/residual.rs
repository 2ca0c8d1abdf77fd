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
//! let header = r#"{"codec":"residual","version":1,"first":{"codec":"lossless.raw","version":1},"second":{"codec":"lossless.raw","version":1}}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_compose as _;
//! # use codec_lossless as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! `MaxAbs`, measured; `RelFrobenius`, measured, if a weight near the end of f32 has a larger error
//! than an f32 can hold.
//!
//! # Cost
//! The sum of both costs.
//!
//! # Limits
//! F32, F16 and BF16, if `first` accepts the tensor and `second` an F32 tensor of its shape. Only
//! `first` gets a base tensor; both get the calibration. The codec is lossy even with exact codecs:
//! the sum is rounded.

use std::num::NonZeroUsize;

use codec_api::{
    Bound, Chunking, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, LinearOp, Need,
    Needs, Payload, PayloadView, Preset, Result, TensorSpec, TensorView, register_codec, typetag,
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
        let cost = CostEstimate::between(least, first.bytes.end().saturating_add(*second.bytes.end()))
            .ops(
                first.encode_ops + first.decode_ops + second.encode_ops + 2.0 * n,
                first.decode_ops + second.decode_ops + n,
            )
            // Rest and decoded weights, and the larger of the children's needs.
            .scratch(12 * spec.elements() as u64 + first.scratch_bytes.max(second.scratch_bytes));
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
        let mut decoded = vec![0.0; values.len()];
        let decode_cx = cx.decoding();
        self.first.decode(spec, first.view(), &decode_cx, &mut decoded)?;
        // The difference of the two ends of f32 exceeds the range of f32.
        let rest: Vec<f32> = values.iter().zip(&decoded).map(|(w, d)| (w - d).clamp(f32::MIN, f32::MAX)).collect();
        let mut child_cx = cx.for_child(SECOND);
        (child_cx.calibration, child_cx.progress) = (cx.calibration, cx.progress);
        let second = self.second.encode(TensorView::from_f32(spec.shape(), &rest)?, &child_cx)?;
        self.add(spec, second.view(), &decode_cx, &mut decoded)?;
        let bound = Bound::measure(&values, &decoded);
        Ok(Payload::new(bound).with_scope(FIRST, first).with_scope(SECOND, second))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let mut child_cx = cx.for_child();
        child_cx.base.clone_from(&cx.base);
        self.first.decode(spec, payload.scoped(FIRST), &child_cx, out)?;
        self.add(spec, payload.scoped(SECOND), cx, out)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        (self.first.as_linear().is_some() && self.second.as_linear().is_some()).then_some(self)
    }
}

impl Residual {
    /// Adds the rest that `second` decodes to `out`.
    fn add(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let mut rest = vec![0.0; spec.elements()];
        self.second.decode(&rest_spec(spec)?, payload, &cx.for_child(), &mut rest)?;
        for (w, rest) in out.iter_mut().zip(rest) {
            *w = (*w + rest).clamp(f32::MIN, f32::MAX);
        }
        Ok(())
    }
}

/// The least common multiple.
fn lcm(a: NonZeroUsize, b: NonZeroUsize) -> Option<NonZeroUsize> {
    let (mut x, mut y) = (a.get(), b.get());
    while y != 0 {
        (x, y) = (y, x % y);
    }
    NonZeroUsize::new(a.get() / x)?.checked_mul(b)
}

impl LinearKernel for Residual {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        let first = self.first.require_linear()?.prepare(spec, payload.scoped(FIRST))?;
        let second = self.second.require_linear()?.prepare(&rest_spec(spec)?, payload.scoped(SECOND))?;
        Ok(Box::new(Sum { first, second }))
    }
}

/// Applies both operators and adds the results.
#[derive(Debug)]
struct Sum {
    first: Box<dyn LinearOp>,
    second: Box<dyn LinearOp>,
}

impl LinearOp for Sum {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        self.first.apply(x, y)?;
        let mut rest = vec![0.0; y.len()];
        self.second.apply(x, &mut rest)?;
        for (y, rest) in y.iter_mut().zip(rest) {
            *y += rest;
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        // The parts are only slightly larger than their sum, unless `second` cancels `first`; the
        // factor of 4 allows for that.
        4.0 * (self.first.tolerance() + self.second.tolerance() + f32::EPSILON)
    }

    fn resident_bytes(&self) -> u64 {
        self.first.resident_bytes() + self.second.resident_bytes()
    }
}

/// The presets use codecs of other crates; only those of linked crates are registered.
fn presets() -> Vec<Preset> {
    const INT4: &str = r#"{"codec":"quant.int","version":1,"bits":4,"group":128,"symmetric":false,"clip":false}"#;
    const INT3: &str = r#"{"codec":"quant.int","version":1,"bits":3,"group":"row","symmetric":true,"clip":false}"#;
    const LOW_RANK: &str = r#"{"codec":"lowrank.svd","version":1,"inner":{"codec":"quant.int","version":1,"bits":8,"group":"row","symmetric":true,"clip":false},"energy":0.9999,"method":"auto"}"#;
    let of = |first, second| format!(r#"{{"codec":"residual","version":1,"first":{first},"second":{second}}}"#);
    [Preset::from_header("int4-int4", &of(INT4, INT4)), Preset::from_header("lowrank-int3", &of(LOW_RANK, INT3))]
        .into_iter()
        .flatten()
        .collect()
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
