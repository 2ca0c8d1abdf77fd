//! Four-bit floats with a power-of-two scale for every 32, `quant.mxfp4`: the OCP Microscaling
//! format MXFP4.
//!
//! # Source
//! OCP Microscaling Formats (MX) Specification, version 1.0, section 5 (E2M1 elements, E8M0 scales,
//! blocks of 32); Rouhani et al., arXiv 2310.10537. The memory layout is that of the gpt-oss
//! checkpoints. The specification's conversion uses the scale 2^(⌊log₂ max|w|⌋ − 2), which clips
//! quotients above 6. This encoder also tries the next power of two and keeps the scale with the
//! smaller squared error over the block.
//!
//! # Sections
//! With `R × C` the matrix view:
//! - `blocks` U8 `[R, C/32, 16]`: two codes per byte, the first in the low nibble. A code is an
//!   E2M1 float with its sign in bit 3: ±0, 0.5, 1, 1.5, 2, 3, 4, 6;
//! - `scales` U8 `[R, C/32]`: E8M0, the byte `e` means 2^(e − 127). At most 252, so that 6 · 2^125
//!   fits in f32.
//!
//! A weight is the value of its code times the scale of its block. Elements are rounded to nearest,
//! ties to even.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.mxfp4","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! `MaxAbs`, measured; at most a quarter of the block's largest weight, if that is from 2^-125 to
//! 3.4e38.
//!
//! # Cost
//! `17·R·C/32` bytes: 4.25 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows of whole blocks of 32. Other rows are refused, as by the software that
//! reads this format, and not padded. Weights above 6 · 2^125 = 2.55e38 become 6 · 2^125; weights
//! of at most 2^-129 become zero. A payload with a scale above 252 (255 is NaN) is refused.

use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset, Result, Section,
    TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, lanes, magnitudes, prefetch, stream, sum};

use crate::blocks::{PART, by_parts};
use crate::error::{MaxError, certify};
use crate::minifloat::{E2m1, Minifloat};
use crate::packing::unpack16;

/// Weights that share a scale.
const BLOCK: usize = 32;
/// Weights decoded per step.
const PIECE: usize = 512;
/// The largest scale code: 6 times the next power of two overflows f32.
const LARGEST_SCALE: u8 = 252;

/// Configuration of `quant.mxfp4`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Mxfp4 {
    /// Format version.
    pub version: FormatVersion<1>,
}

#[typetag::serde(name = "quant.mxfp4")]
impl Codec for Mxfp4 {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        spec.require_whole_blocks(BLOCK)
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.elements();
        CostEstimate::fixed((n / 2 + n / BLOCK) as u64)
            .ops(40.0 * n as f64, 2.0 * n as f64)
            .scratch(crate::widened_bytes(spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        self.accepts(tensor.spec())?;
        let all = tensor.to_f32()?;
        let (rows, columns) = tensor.spec().matrix();
        let mut packed = vec![0; all.len() / 2];
        let mut scales = vec![0; all.len() / BLOCK];
        let largest = by_parts(&all, PART, cx, |part| {
            quantise(part.values, part.next, part.of(&mut scales, BLOCK), part.of(&mut packed, 2))
        })?;
        Ok(Payload::new(certify(largest))
            .with("blocks", Section::new(Dtype::U8, [rows, columns / BLOCK, BLOCK / 2], packed)?)
            .with("scales", Section::new(Dtype::U8, [rows, columns / BLOCK], scales)?))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.accepts(spec)?;
        spec.check_output(out.len())?;
        let (rows, columns) = spec.matrix();
        let packed = payload.bytes("blocks", Dtype::U8, &[rows, columns / BLOCK, BLOCK / 2])?;
        let scales = payload.bytes("scales", Dtype::U8, &[rows, columns / BLOCK])?;
        let largest = scales.iter().fold(0, |largest: u8, scale| largest.max(*scale));
        if largest > LARGEST_SCALE {
            return Err(payload.corrupt("scales", format!("{largest} is above {LARGEST_SCALE}")));
        }
        cx.cancel.check()?;
        dequantise(packed, scales, out);
        Ok(())
    }
}

/// The value of a scale code.
#[inline(always)]
fn scale_of(code: u8) -> f32 {
    // Code 0 means 2^-127, which is subnormal.
    f32::from_bits(if code == 0 { 1 << 22 } else { u32::from(code) << 23 })
}

/// One over [`scale_of`] for codes up to [`LARGEST_SCALE`].
#[inline(always)]
fn inverse_of(code: u8) -> f32 {
    f32::from_bits(u32::from(254 - code) << 23)
}

kernel! {
    /// Computes scales and codes of whole blocks, and prefetches `next`. Returns the largest error
    /// and the largest magnitude (infinite if a value is not finite).
    fn quantise<'a>(simd, values: &'a [f32], next: &'a [f32], scales: &'a mut [u8], packed: &'a mut [u8]) -> (f32, f32) {
        let (mut error, mut largest) = (MaxError::new(), 0.0);
        let blocks = values.as_chunks::<BLOCK>().0.iter().zip(packed.as_chunks_mut::<{ BLOCK / 2 }>().0);
        for (i, ((block, packed), code)) in blocks.zip(scales).enumerate() {
            prefetch(next, i * BLOCK);
            prefetch(next, i * BLOCK + LANES);
            let [low, high] = halves(block);
            let magnitude = simd.reduce_max(&magnitudes(simd.max_magnitude(&simd.max_magnitude(&[0; LANES], low), high)));
            largest = if magnitude > largest { magnitude } else { largest };
            *code = best_scale(low, high, magnitude);
            let (scale, inverse) = (scale_of(*code), inverse_of(*code));
            for (x, packed) in [low, high].into_iter().zip(packed.as_chunks_mut().0) {
                let rounded = E2m1::round(&lanes!(i => x[i] * inverse));
                error.add(x, &lanes!(i => rounded.values[i] * scale));
                *packed = simd.pack_nibbles::<false>(&rounded.codes);
            }
        }
        (error.get(), largest)
    }
}

#[inline(always)]
fn halves(block: &[f32; BLOCK]) -> [&[f32; LANES]; 2] {
    let halves = block.as_chunks().0;
    [&halves[0], &halves[1]]
}

/// The scale code of the specification's conversion, or the next one if its squared error is
/// smaller.
#[inline(always)]
fn best_scale(low: &[f32; LANES], high: &[f32; LANES], magnitude: f32) -> u8 {
    let exponent = (magnitude.to_bits() >> 23) as u8;
    // The largest finite exponent, 254, gives `LARGEST_SCALE`; infinity would give more.
    let code = exponent.saturating_sub(2).min(LARGEST_SCALE);
    let inverse = inverse_of(code);
    let (low, high) = (lanes!(i => low[i].abs() * inverse), lanes!(i => high[i].abs() * inverse));
    let (fine, coarse) = (squared_errors(&low, &high, 1.0), squared_errors(&low, &high, 2.0));
    let gain: f32 = sum(lanes!(i => fine[i] - coarse[i]));
    code + u8::from(gain > 0.0 && code < LARGEST_SCALE)
}

/// Squared errors of a block for a power-of-two scale; each lane adds the errors of two weights.
#[inline(always)]
fn squared_errors(low: &[f32; LANES], high: &[f32; LANES], scale: f32) -> [f32; LANES] {
    let inverse = 1.0 / scale;
    let low: [f32; LANES] = lanes!(i => low[i] - E2m1::round_magnitude(low[i] * inverse).0 * scale);
    let high: [f32; LANES] = lanes!(i => high[i] - E2m1::round_magnitude(high[i] * inverse).0 * scale);
    lanes!(i => low[i] * low[i] + high[i] * high[i])
}

kernel! {
    fn dequantise<'a>(simd, packed: &'a [u8], scales: &'a [u8], out: &'a mut [f32]) {
        stream(out, |writer| {
            for (packed, scales) in packed.chunks(PIECE / 2).zip(scales.chunks(PIECE / BLOCK)) {
                let out = writer.next(2 * packed.len()).as_chunks_mut::<BLOCK>().0;
                let packed = packed.as_chunks::<{ BLOCK / 2 }>().0;
                for ((out, packed), code) in out.iter_mut().zip(packed).zip(scales) {
                    let scale = scale_of(*code);
                    for (out, packed) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(packed.as_chunks::<8>().0) {
                        let values = E2m1::widen(simd, &unpack16::<4, _>(simd, packed));
                        *out = lanes!(i => values[i] * scale);
                    }
                }
            }
        });
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("mxfp4", Mxfp4::default())]
}

register_codec!("quant.mxfp4", "OCP MXFP4: E2M1 floats, a power of two for every 32", presets);
