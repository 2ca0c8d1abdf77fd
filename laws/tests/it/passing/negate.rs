//! Negates the weights and encodes them with another codec.
//!
//! # Source
//! None: the simplest composite.
//!
//! # Sections
//! `inner/…`: the child's sections for the negated tensor, as F32 of the same shape.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"test.negate","version":1,"inner":{"codec":"test.layers","version":1}}"#;
//! ```
//!
//! # Bound
//! None in advance: the largest error follows from the weights.
//!
//! # Cost
//! The child's.
//!
//! # Limits
//! Floats only; the child must not require a base or calibration.

use codec_api::{
    Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Needs, Payload, PayloadView, Preset,
    Result, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

use super::truncate::Truncate;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Negate {
    #[serde(default)]
    version: FormatVersion<1>,
    inner: Box<dyn Codec>,
}

impl Negate {
    fn new(inner: impl Codec + 'static) -> Self {
        Self { version: FormatVersion, inner: Box::new(inner) }
    }
}

#[typetag::serde(name = "test.negate")]
impl Codec for Negate {
    fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
        vec![("inner", &*self.inner)]
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        if self.inner.needs() != Needs::default() {
            return Err(CodecError::Unsupported("the child needs a base or calibration".to_owned()));
        }
        self.inner.accepts(&inner_spec(spec)?)
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let Ok(inner) = inner_spec(spec) else { return CostEstimate::fixed(0) };
        let cost = self.inner.cost(&inner);
        let scratch = cost.scratch_bytes + 12 * spec.elements() as u64;
        cost.scratch(scratch)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_finite_f32()?;
        let negated: Vec<f32> = values.iter().map(|v| -v).collect();
        let child = self.inner.encode(TensorView::from_f32(tensor.spec().shape(), &negated)?, cx)?;
        Payload::new().with_scope("inner", child)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.inner.decode(&inner_spec(spec)?, payload.scoped("inner"), cx, out)?;
        for w in out {
            *w = -*w;
        }
        Ok(())
    }
}

fn inner_spec(spec: &TensorSpec) -> Result<TensorSpec> {
    TensorSpec::new(Dtype::F32, spec.shape())
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::new("truncate", Negate::new(Truncate::default())),
        Preset::new("twice", Negate::new(Negate::new(Truncate::default()))),
    ]
}
register_codec!("test.negate", "negates for another codec", presets, .children(&["inner"]));
