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
//! - `base` U8 `[32]`: blake3 of the whole base's stored bytes;
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
//! The error of `inner` on the difference, and at most one unit in the last place of f32 each for
//! rounding difference and sum.
//!
//! # Cost
//! The cost of `inner` for the F32 tensor, and 32 bytes.
//!
//! # Limits
//! F32, F16 and BF16, with a base of the same dtype and shape and finite values, if `inner` accepts
//! an F32 tensor of that shape. `inner` gets the calibration, and must not need a base. `delta` is
//! lossy even with an exact `inner`: difference and sum are rounded. Differences of 16-bit weights
//! are F32 too, so an inner codec that stores four bytes a weight does not pay there. Rows decode
//! only together: a reader of rows would have to keep a copy of the base.

use codec_api::util::zeros;
use codec_api::{
    Chunking, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Need, Needs, Payload, PayloadView, Preset,
    Result, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

use crate::difference::{add, subtract, write_base};

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
}

/// The spec of the tensor that `inner` encodes.
fn difference_spec(spec: &TensorSpec) -> Result<TensorSpec> {
    TensorSpec::new(Dtype::F32, spec.shape())
}

#[typetag::serde(name = "delta")]
impl Codec for Delta {
    fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
        vec![(INNER, &*self.inner)]
    }

    fn needs(&self) -> Needs {
        Needs::default().base(Need::Requires).calibration(self.inner.needs().calibration)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        self.inner.needs().calibration(Need::No).require_nothing()?;
        self.inner.accepts(&difference_spec(spec)?)
    }

    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        match difference_spec(spec) {
            // Chunks would not share the statistics of the difference.
            Ok(difference) if self.inner.as_surveyed().is_none() => self.inner.chunking(&difference),
            _ => Chunking::Whole,
        }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let inner = self.inner.cost(difference_spec(spec).as_ref().unwrap_or(spec));
        let (least, most) = (*inner.bytes.start(), *inner.bytes.end());
        let n = spec.elements() as u64;
        // The differences, and either the base as f32 or what the inner codec needs.
        let scratch = inner.scratch_bytes.max(4 * n).saturating_add(4 * n);
        let n = n as f64;
        CostEstimate::between(least.saturating_add(Payload::BASE_BYTES), most.saturating_add(Payload::BASE_BYTES))
            .ops(inner.encode_ops + 3.0 * n, inner.decode_ops + 2.0 * n)
            .scratch(scratch)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let spec = tensor.spec();
        let base = cx.base_of(spec)?;
        let differences = subtract(&tensor, base)?;
        let mut child_cx = cx.for_child(INNER).with_progress(cx.progress);
        child_cx.calibration = cx.calibration;
        let child = self.inner.encode(TensorView::from_f32(spec.shape(), &differences)?, &child_cx)?;
        Payload::new().with_base(base.id)?.with_scope(INNER, child)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        write_base(payload.base(spec, cx)?, out)?;
        let mut differences = zeros(out.len())?;
        self.inner.decode(&difference_spec(spec)?, payload.scoped(INNER), &cx.for_child(), &mut differences)?;
        for (w, difference) in out.iter_mut().zip(differences) {
            *w = add(*w, difference);
        }
        Ok(())
    }
}

/// The presets use codecs of other crates; only those of linked crates are registered.
fn presets() -> Vec<Preset> {
    const LARGEST: &str = concat!(
        "delta(sparse.prune(sparse(quant.int:bits=8:group=128:symmetric=true:clip=false))",
        ":density=0.1:scope=tensor)",
    );
    vec![
        Preset::from_spec("int4", "delta(quant.int:bits=4:group=128:symmetric=false:clip=false)"),
        Preset::from_spec("rank8", "delta(lowrank.svd(quant.cast:to=f16):rank=8:method=auto)"),
        Preset::from_spec("largest10", LARGEST),
    ]
}

fn probes() -> Vec<String> {
    let specs = ["delta(lossless.raw)", "delta(quant.int:bits=2)", "delta(sparse.prune:density=0.1)"];
    specs.map(str::to_owned).into()
}

register_codec!("delta", "any codec for the difference to a base tensor", presets, .children(&["inner"]).probes(probes));
