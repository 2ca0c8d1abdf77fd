//! The difference of a tensor from its base, encoded with any codec, `delta(inner)`.
//!
//! Typical inner codecs: a low-rank matrix for a fine-tune that was trained as one; only the
//! largest differences; a few bits for each difference.
//!
//! # Source
//! None needed. Low rank: the matrices that Hu et al., `LoRA`, arXiv 2106.09685, train, recovered
//! from a finished fine-tune; the largest differences: the first step of Yadav et al., TIES, arXiv
//! 2306.01708; few bits: Isik et al., *GPT-Zip*, 2023.
//!
//! # Sections
//! - `base` U8 `[32]`: blake3 of the base's stored bytes;
//! - `inner/…`: the payload of `inner` for an F32 tensor of the same shape. Its values are weight
//!   minus base, rounded to f32 and clamped to its range.
//!
//! A weight is the f32 sum of base and decoded difference, clamped to the range of f32. A
//! difference of 0 yields the base value.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"delta","version":1,"inner":{"codec":"lossless.raw","version":1}}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_delta as _, codec_lossless as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! `MaxAbs` of the result against the tensor, measured; `RelFrobenius`, measured, if a weight near
//! the end of f32 has a larger error than an f32 can hold.
//!
//! # Cost
//! The cost of `inner` for the F32 tensor, and 32 bytes.
//!
//! # Limits
//! F32, F16 and BF16, with a base of the same dtype and shape and finite values, if `inner` accepts
//! an F32 tensor of that shape. `inner` gets the calibration, and must not need a base. `delta` is
//! lossy even with an exact `inner`: difference and sum are rounded. Differences of 16-bit weights
//! are F32 too, so an inner codec that stores four bytes a weight does not pay there.

use codec_api::{
    Bound, Chunking, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Need, Needs, Payload, PayloadView,
    Preset, Result, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

use crate::base;
use crate::difference::{add, finite_base, subtract, write_base};

/// Scope of the inner codec's sections.
const INNER: &str = "inner";

/// Configuration of `delta`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Delta {
    /// Format version.
    #[serde(default)]
    pub version: FormatVersion<1>,
    /// Encodes the difference.
    pub inner: Box<dyn Codec>,
}

impl Delta {
    /// Creates the codec; `inner` encodes the difference.
    pub fn new(inner: Box<dyn Codec>) -> Self {
        Self { version: FormatVersion, inner }
    }

    /// Adds the differences that `inner` decodes to `out`.
    fn add(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let mut differences = vec![0.0; out.len()];
        self.inner.decode(&difference_spec(spec)?, payload, &cx.for_child(), &mut differences)?;
        for (w, difference) in out.iter_mut().zip(differences) {
            *w = add(*w, difference);
        }
        Ok(())
    }
}

/// The spec of the tensor that `inner` encodes.
fn difference_spec(spec: &TensorSpec) -> Result<TensorSpec> {
    TensorSpec::new(Dtype::F32, spec.shape())
}

#[typetag::serde(name = "delta")]
impl Codec for Delta {
    fn needs(&self) -> Needs {
        Needs::default().base(Need::Requires).calibration(self.inner.needs().calibration)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        self.inner.needs().calibration(Need::No).require_nothing()?;
        self.inner.accepts(&difference_spec(spec)?)
    }

    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        difference_spec(spec).map_or(Chunking::Whole, |difference| self.inner.chunking(&difference))
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let inner = self.inner.cost(difference_spec(spec).as_ref().unwrap_or(spec));
        let (least, most) = (*inner.bytes.start(), *inner.bytes.end());
        let n = spec.elements() as f64;
        // Differences, values and base as f32, and the result for measuring the bound.
        let kept = 16 * spec.elements() as u64;
        CostEstimate::between(least.saturating_add(base::ID_BYTES), most.saturating_add(base::ID_BYTES))
            .ops(inner.encode_ops + inner.decode_ops + 5.0 * n, inner.decode_ops + 2.0 * n)
            .scratch(inner.scratch_bytes.saturating_add(kept))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let (spec, values) = (tensor.spec(), tensor.to_finite_f32()?);
        let base = base::given(spec, cx)?;
        let mut decoded = finite_base(base)?.into_owned();
        let differences = subtract(&values, &decoded);
        let mut child_cx = cx.for_child(INNER).with_progress(cx.progress);
        child_cx.calibration = cx.calibration;
        let child = self.inner.encode(TensorView::from_f32(spec.shape(), &differences)?, &child_cx)?;
        drop(differences);
        self.add(spec, child.view(), &cx.decoding(), &mut decoded)?;
        let bound = Bound::measure(&values, &decoded);
        Ok(Payload::new(bound).with(base::BASE, base::section(base)?).with_scope(INNER, child))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        write_base(base::expect(&payload, spec, cx)?, out)?;
        self.add(spec, payload.scoped(INNER), cx, out)
    }
}

/// The presets use codecs of other crates; only those of linked crates are registered.
fn presets() -> Vec<Preset> {
    const INT4: &str = r#"{"codec":"quant.int","version":1,"bits":4,"group":128,"symmetric":false,"clip":false}"#;
    const INT8: &str = r#"{"codec":"quant.int","version":1,"bits":8,"group":128,"symmetric":true,"clip":false}"#;
    const RANK8: &str = r#"{"codec":"lowrank.svd","version":1,"inner":{"codec":"quant.cast","version":1,"to":"f16"},"rank":8,"method":"auto"}"#;
    let largest = format!(
        r#"{{"codec":"sparse.prune","version":1,"inner":{{"codec":"sparse","version":1,"inner":{INT8}}},"density":0.1,"scope":"tensor"}}"#
    );
    let preset =
        |name, inner: &str| Preset::from_header(name, &format!(r#"{{"codec":"delta","version":1,"inner":{inner}}}"#));
    [preset("int4", INT4), preset("rank8", RANK8), preset("largest10", &largest)].into_iter().flatten().collect()
}

fn probes() -> Vec<String> {
    let specs = ["delta(lossless.raw)", "delta(quant.int:bits=2)", "delta(sparse.prune:density=0.1)"];
    specs.map(str::to_owned).into()
}

register_codec!("delta", "any codec for the difference to a base tensor", presets, .children(&["inner"]).probes(probes));
