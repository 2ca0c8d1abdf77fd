//! Casting to a 16-bit float, `quant.cast`: F16 or BF16, with the rounding error measured.
//!
//! # Source
//! IEEE 754-2019 binary16; bfloat16 as in Kalamkar et al., arXiv 1905.12322. Both round to nearest,
//! ties to even.
//!
//! # Sections
//! - `values`, F16 or BF16, of the tensor's own shape.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.cast","version":1,"to":"bf16"}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `to` is `f16` or `bf16`.
//!
//! # Bound
//! `MaxAbs`, measured. For weights in the target's normal range it is at most 2⁻¹¹ (F16) or 2⁻⁸
//! (BF16) of the largest weight.
//!
//! # Cost
//! 2 bytes per weight.
//!
//! # Limits
//! F32, F16 and BF16. A tensor is refused as unsuitable if a weight rounds beyond the target's
//! range (65 504 for F16). Weights of at most 2⁻²⁵ become zero in F16.

use codec_api::{
    Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset, Result,
    Section, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, Simd, kernel, load, magnitudes, store, stream};

use crate::blocks::{PART, by_parts};
use crate::error::{MaxError, certify};

/// The format to cast to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// IEEE half precision.
    #[default]
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
}

impl Target {
    fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn widen(self, bits: &[u16], values: &mut [f32]) {
        match self {
            Self::F16 => simd::f16_to_f32(bits, values),
            Self::Bf16 => simd::bf16_to_f32(bits, values),
        }
    }
}

/// Configuration of `quant.cast`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Cast {
    /// Format version.
    pub version: FormatVersion<1>,
    /// The format to cast to.
    pub to: Target,
}

impl Cast {
    /// A cast to this format.
    pub fn new(to: Target) -> Self {
        Self { version: FormatVersion, to }
    }
}

/// Weights decoded per step.
const PIECE: usize = 512;

#[typetag::serde(name = "quant.cast")]
impl Codec for Cast {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.elements();
        CostEstimate::fixed(2 * n as u64).ops(4.0 * n as f64, n as f64).scratch(crate::widened_bytes(spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_f32()?;
        let mut bits = vec![0u16; values.len()];
        let largest = by_parts(&values, PART, cx, |part| narrow(self.to, part.values, part.of(&mut bits, 1)))?;
        if largest.is_infinite() {
            let reason = format!("a weight is beyond the range of {}: max |w|", self.to.dtype());
            return Err(CodecError::Unsuitable { reason, number: simd::max_abs(&values).into() });
        }
        let section = Section::from_values(self.to.dtype(), tensor.spec().shape(), bits)?;
        Ok(Payload::new(certify(largest)).with("values", section))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let bytes = payload.bytes("values", self.to.dtype(), spec.shape())?;
        cx.cancel.check()?;
        stream(out, |writer| {
            let mut bits = [0; PIECE];
            for bytes in bytes.chunks(2 * PIECE) {
                // The section may begin at any address.
                let bits = &mut bits[..bytes.len() / 2];
                bytemuck::cast_slice_mut(bits).copy_from_slice(bytes);
                self.to.widen(bits, writer.next(bits.len()));
            }
        });
        Ok(())
    }
}

kernel! {
    /// Casts a block; returns the largest error and the largest magnitude (infinite if a value is
    /// not finite).
    fn narrow<'a>(simd, to: Target, values: &'a [f32], bits: &'a mut [u16]) -> (f32, f32) {
        match to {
            Target::F16 => narrow_to::<false, _>(simd, values, bits),
            Target::Bf16 => narrow_to::<true, _>(simd, values, bits),
        }
    }
}

#[inline(always)]
fn narrow_to<const BF16: bool, S: Simd>(simd: S, values: &[f32], bits: &mut [u16]) -> (f32, f32) {
    let (mut error, mut largest) = (MaxError::new(), [0; LANES]);
    for (values, bits) in values.chunks(LANES).zip(bits.chunks_mut(LANES)) {
        let x = load(values);
        largest = simd.max_magnitude(&largest, &x);
        let narrow = if BF16 { simd.f32_to_bf16(&x) } else { simd.f32_to_f16(&x) };
        error.add(&x, &if BF16 { simd.bf16_to_f32(&narrow) } else { simd.f16_to_f32(&narrow) });
        store(narrow, bits);
    }
    (error.get(), simd.reduce_max(&magnitudes(largest)))
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("f16", Cast::new(Target::F16)), Preset::new("bf16", Cast::new(Target::Bf16))]
}

register_codec!("quant.cast", "F16 or BF16, rounded to nearest", presets);
