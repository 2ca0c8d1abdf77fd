//! Casting to a 16-bit float, `quant.cast`: F16 or BF16.
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
//! At most 2⁻¹¹ (F16) or 2⁻⁸ (BF16) of a weight in the target's normal range.
//!
//! # Cost
//! 2 bytes per weight.
//!
//! # Limits
//! F32, F16 and BF16. A tensor is refused as unsuitable if a weight rounds beyond the target's
//! range (65 504 for F16). Weights of at most 2⁻²⁵ become zero in F16.

use std::ops::Range;

use codec_api::{
    Bytes, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset,
    Result, RowReader, Rows, Section, TensorSpec, TensorView, check_rows, register_codec, typetag,
};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use simd::{LANES, Simd, kernel, load, magnitudes, store, stream};

use crate::blocks::{PART, by_parts};

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

    /// Whether a magnitude is rounded to infinity.
    fn overflows(self, magnitude: f32) -> bool {
        match self {
            Self::F16 => f16::from_f32(magnitude).is_infinite(),
            Self::Bf16 => bf16::from_f32(magnitude).is_infinite(),
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
        let mut largest = 0.0f32;
        by_parts(&values, PART, cx, |part| {
            let magnitude = narrow(self.to, part.values, part.of(&mut bits, 1));
            largest = largest.max(magnitude);
            magnitude
        })?;
        if self.to.overflows(largest) {
            let reason = format!("a weight is beyond the range of {}: max |w|", self.to.dtype());
            return Err(CodecError::Unsuitable { reason, number: largest.into() });
        }
        Payload::new().with("values", Section::from_values(self.to.dtype(), tensor.spec().shape(), bits)?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        crate::decode_rows(self, spec, payload, cx, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Rows for Cast {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        let values = payload.bytes("values", self.to.dtype(), spec.shape())?.clone();
        Ok(Box::new(Reader { shape: spec.matrix(), to: self.to, values }))
    }
}

#[derive(Debug)]
struct Reader {
    shape: (usize, usize),
    to: Target,
    values: Bytes,
}

impl RowReader for Reader {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let bytes = &self.values[2 * rows.start * self.shape.1..][..2 * out.len()];
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

    fn resident_bytes(&self) -> u64 {
        self.values.len() as u64
    }
}

kernel! {
    /// Casts a block; returns the largest magnitude, infinite if a value is not finite.
    fn narrow<'a>(simd, to: Target, values: &'a [f32], bits: &'a mut [u16]) -> f32 {
        match to {
            Target::F16 => narrow_to::<false, _>(simd, values, bits),
            Target::Bf16 => narrow_to::<true, _>(simd, values, bits),
        }
    }
}

#[inline(always)]
fn narrow_to<const BF16: bool, S: Simd>(simd: S, values: &[f32], bits: &mut [u16]) -> f32 {
    let mut largest = [0; LANES];
    for (values, bits) in values.chunks(LANES).zip(bits.chunks_mut(LANES)) {
        let x = load(values);
        largest = simd.max_magnitude(&largest, &x);
        store(if BF16 { simd.f32_to_bf16(&x) } else { simd.f32_to_f16(&x) }, bits);
    }
    simd.reduce_max(&magnitudes(largest))
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("f16", Cast::new(Target::F16)), Preset::new("bf16", Cast::new(Target::Bf16))]
}

register_codec!("quant.cast", "F16 or BF16, rounded to nearest", presets);
