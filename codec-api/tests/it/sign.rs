//! A small codec and a codec around it, for the tests of this crate.

use codec_api::{
    Bounded, Codec, CodecEntry, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset,
    Registry, Result, Section, TensorSpec, TensorView, typetag,
};
use serde::{Deserialize, Serialize};

/// Stores the sign of each weight; every magnitude decodes to a fixed power of two.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sign {
    version: FormatVersion<1>,
    exponent: Bounded<0, 15>,
}

impl Default for Sign {
    fn default() -> Self {
        Self { version: FormatVersion, exponent: Bounded::at::<0>() }
    }
}

#[typetag::serde(name = "test.sign")]
impl Codec for Sign {
    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.elements() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, _: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_finite_f32()?;
        let signs: Vec<i8> = values.iter().map(|v| if *v < 0.0 { -1 } else { 1 }).collect();
        Payload::new().with("signs", Section::from_values(Dtype::I8, [signs.len()], signs)?)
    }

    fn decode(&self, _: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let signs = payload.values::<i8>("signs", Dtype::I8, &[out.len()])?;
        let scale = f32::from(1u16 << self.exponent.get());
        out.iter_mut().zip(signs).for_each(|(w, sign)| *w = scale * f32::from(sign));
        Ok(())
    }
}

/// Delegates everything to another codec.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrap {
    #[serde(default)]
    version: FormatVersion<1>,
    inner: Box<dyn Codec>,
}

#[typetag::serde(name = "test.wrap")]
impl Codec for Wrap {
    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        self.inner.cost(spec)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        self.inner.encode(tensor, cx)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.inner.decode(spec, payload, cx, out)
    }
}

pub fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Sign::default())]
}

pub fn entry() -> CodecEntry {
    CodecEntry::new("test.sign", "signs", ("codec-a", "1.0.0"), presets)
}

/// The entry of [`Wrap`].
pub fn wrap() -> CodecEntry {
    fn wrapped() -> Vec<Preset> {
        vec![Preset::new("sign", Wrap { version: FormatVersion, inner: Box::new(Sign::default()) })]
    }
    CodecEntry::new("test.wrap", "another codec", ("codec-a", "1.0.0"), wrapped).children(&["inner"])
}

/// A registry with both codecs.
pub fn registry() -> Registry {
    Registry::from_entries([entry(), wrap()]).expect("two codecs")
}
