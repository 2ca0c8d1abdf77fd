//! Four-bit floats with a power-of-two scale for every 32, `quant.mxfp4`: the OCP Microscaling
//! format MXFP4.
//!
//! # Source
//! OCP Microscaling Formats (MX) Specification, version 1.0, section 5 (E2M1 elements, E8M0 scales,
//! blocks of 32); Rouhani et al., arXiv 2310.10537. The memory layout is that of the gpt-oss
//! checkpoints. The specification's conversion uses the scale 2^(⌊log₂ max|w|⌋ − 2), which clips
//! quotients above 6. This encoder also tries the next power of two and keeps the scale with the
//! smaller squared error over the block. With calibration by column it then tries the powers of two
//! beside this one, and keeps the scale with the smallest squared error, weighted by the mean
//! squares of the inputs.
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
//! At most a quarter of the block's largest weight (five eighths with calibration), if that weight
//! is from 2^-125 to 3.4e38.
//!
//! # Cost
//! `17·R·C/32` bytes: 4.25 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows of whole blocks of 32. Other rows are refused, as by the software that
//! reads this format, and not padded. Weights above 6 · 2^125 = 2.55e38 become 6 · 2^125; weights
//! of at most 2^-129 become zero. A payload with a scale above 252 (255 is NaN) is refused.

use std::ops::Range;

use codec_api::{
    Bytes, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Need, Needs, PanelCut, PanelEncoder, Panels,
    Payload, PayloadView, Preset, Result, RowReader, Rows, Section, TensorSpec, TensorView, check_rows, register_codec,
    typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, Lanes, kernel, lanes, magnitudes, prefetch, stream, sum};

use crate::blocks::{PART, by_parts};
use crate::e2m1::{self, Blocks};
use crate::importance::ColumnImportance;
use crate::minifloat::{E2m1, Minifloat, least};
use crate::packing::unpack16;
use crate::panels::cut;

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
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        spec.require_whole_blocks(BLOCK)
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.elements();
        CostEstimate::fixed((n / 2 + n / BLOCK) as u64)
            .ops(40.0 * n as f64, 2.0 * n as f64)
            .scratch(ColumnImportance::scratch(spec, PART) + crate::widened_bytes(spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        self.accepts(tensor.spec())?;
        let all = tensor.to_f32()?;
        let importance = ColumnImportance::new(tensor.spec(), cx, BLOCK)?;
        let mut packed = vec![0; all.len() / 2];
        let mut scales = vec![0; all.len() / BLOCK];
        by_parts(&all, PART, cx, |part| {
            let importance = importance.as_ref().map(|columns| columns.of(part.start, part.values.len()));
            let (scales, packed) = (part.of(&mut scales, BLOCK), part.of(&mut packed, 2));
            quantise(part.values, part.next, importance.as_deref(), scales, packed)
        })?;
        self.payload(tensor.spec(), packed, scales)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        crate::decode_rows(self, spec, payload, cx, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_panels(&self) -> Option<&dyn Panels> {
        Some(self)
    }
}

impl Panels for Mxfp4 {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        self.accepts(spec)?;
        Ok(cut(BLOCK))
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        e2m1::begin(self, self.cut(original.spec())?, &original, cx)
    }
}

impl Blocks for &Mxfp4 {
    fn choose(&self, values: &[f32], importance: Option<&[f32]>, scales: &mut [u8]) {
        quantise(values, &[], importance, scales, &mut vec![0; values.len() / 2]);
    }

    fn round(&self, x: f32, scale: u8) -> (u8, f32) {
        let (value, code) = E2m1::round_one(x * inverse_of(scale));
        (code, value * scale_of(scale))
    }

    fn payload(&self, spec: &TensorSpec, packed: Vec<u8>, scales: Vec<u8>) -> Result<Payload> {
        let (rows, columns) = spec.matrix();
        Payload::new()
            .with("blocks", Section::new(Dtype::U8, [rows, columns / BLOCK, BLOCK / 2], packed)?)?
            .with("scales", Section::new(Dtype::U8, [rows, columns / BLOCK], scales)?)
    }
}

impl Rows for Mxfp4 {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        self.accepts(spec)?;
        let (rows, columns) = spec.matrix();
        let packed = payload.bytes("blocks", Dtype::U8, &[rows, columns / BLOCK, BLOCK / 2])?.clone();
        let scales = payload.bytes("scales", Dtype::U8, &[rows, columns / BLOCK])?.clone();
        let largest = scales.iter().fold(0, |largest: u8, scale| largest.max(*scale));
        if largest > LARGEST_SCALE {
            return Err(payload.corrupt("scales", format!("{largest} is above {LARGEST_SCALE}")));
        }
        Ok(Box::new(Mxfp4Rows { shape: (rows, columns), packed, scales }))
    }
}

/// The rows of a payload.
#[derive(Debug)]
struct Mxfp4Rows {
    shape: (usize, usize),
    packed: Bytes,
    scales: Bytes,
}

impl RowReader for Mxfp4Rows {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let first = rows.start * self.shape.1;
        dequantise(&self.packed[first / 2..][..out.len() / 2], &self.scales[first / BLOCK..][..out.len() / BLOCK], out);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        (self.packed.len() + self.scales.len()) as u64
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
    /// Computes scales and codes of whole blocks, and prefetches `next`. Returns the largest
    /// magnitude (infinite if a value is not finite).
    fn quantise<'a>(
        simd,
        values: &'a [f32],
        next: &'a [f32],
        importance: Option<&'a [f32]>,
        scales: &'a mut [u8],
        packed: &'a mut [u8],
    ) -> f32 {
        let mut largest = 0.0;
        let blocks = values.as_chunks::<BLOCK>().0.iter().zip(packed.as_chunks_mut::<{ BLOCK / 2 }>().0);
        for (i, ((block, packed), code)) in blocks.zip(scales).enumerate() {
            prefetch(next, i * BLOCK);
            prefetch(next, i * BLOCK + LANES);
            let x = halves(block);
            let bits = simd.max_magnitude(&simd.max_magnitude(&[0; LANES], x[0]), x[1]);
            let magnitude = simd.reduce_max(&magnitudes(bits));
            largest = if magnitude > largest { magnitude } else { largest };
            *code = best_scale(x, magnitude);
            if let Some(importance) = importance {
                *code = beside(*code, x, halves(&importance.as_chunks().0[i]));
            }
            let inverse = inverse_of(*code);
            for (x, packed) in x.into_iter().zip(packed.as_chunks_mut().0) {
                *packed = simd.pack_nibbles::<false>(&E2m1::round(&lanes!(i => x[i] * inverse)));
            }
        }
        largest
    }
}

/// The halves of a block.
type Halves<'a> = [&'a Lanes<f32>; 2];

#[inline(always)]
fn halves(block: &[f32; BLOCK]) -> Halves<'_> {
    let halves = block.as_chunks().0;
    [&halves[0], &halves[1]]
}

/// The scale code of the specification's conversion, or the next one if its squared error is
/// smaller.
#[inline(always)]
fn best_scale(x: Halves<'_>, magnitude: f32) -> u8 {
    let exponent = (magnitude.to_bits() >> 23) as u8;
    // The largest finite exponent, 254, gives `LARGEST_SCALE`; infinity would give more.
    let code = exponent.saturating_sub(2).min(LARGEST_SCALE);
    let ones = [&[1.0; LANES]; 2];
    let (fine, coarse) = (squared_errors(x, ones, code, 1.0), squared_errors(x, ones, code, 2.0));
    let gain: f32 = sum(lanes!(i => fine[i] - coarse[i]));
    code + u8::from(gain > 0.0 && code < LARGEST_SCALE)
}

/// This scale code, or one beside it if its squared error, weighted by importance, is smaller.
#[inline(always)]
fn beside(code: u8, x: Halves<'_>, importance: Halves<'_>) -> u8 {
    let mut errors = [0.0; 3];
    for (error, factor) in errors.iter_mut().zip([0.5, 1.0, 2.0]) {
        *error = sum(squared_errors(x, importance, code, factor));
    }
    if code == 0 {
        errors[0] = f32::INFINITY;
    }
    if code == LARGEST_SCALE {
        errors[2] = f32::INFINITY;
    }
    code + least(&errors, 1) as u8 - 1
}

/// Squared errors of a block, weighted by importance, in units of the scale with this code. The
/// tried scale is `factor` in the same unit. Each lane adds the errors of two weights.
#[inline(always)]
fn squared_errors(x: Halves<'_>, importance: Halves<'_>, code: u8, factor: f32) -> Lanes<f32> {
    let (to_unit, inverse) = (inverse_of(code), 1.0 / factor);
    let mut errors = [[0.0; LANES]; 2];
    for ((errors, x), w) in errors.iter_mut().zip(x).zip(importance) {
        let x: Lanes<f32> = lanes!(i => x[i].abs() * to_unit);
        let off: Lanes<f32> = lanes!(i => x[i] - E2m1::round_magnitude(x[i] * inverse).0 * factor);
        *errors = lanes!(i => w[i] * (off[i] * off[i]));
    }
    lanes!(i => errors[0][i] + errors[1][i])
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
