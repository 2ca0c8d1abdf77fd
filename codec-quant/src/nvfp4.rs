//! Four-bit floats with an eight-bit float scale for every 16 and one f32 scale for all,
//! `quant.nvfp4`: NVIDIA's NVFP4.
//!
//! # Source
//! NVIDIA, "Introducing NVFP4 for Efficient and Accurate Low-Precision Inference" (2025); the
//! layout is that of its Model Optimizer, where the sections are called `weight`, `weight_scale`
//! and `weight_scale_2`. There the scale of a block is `max|w| / 6`, rounded. This encoder also
//! tries the three codes below that scale and the twelve above it, and keeps the one with the least
//! squared error over the block. Calibration by column weights these errors by the mean squares of
//! the inputs.
//!
//! # Sections
//! With `R × C` the matrix view:
//! - `codes` U8 `[R, C/2]`: two codes per byte, the first in the low nibble. A code is an E2M1
//!   float with its sign in bit 3: ±0, 0.5, 1, 1.5, 2, 3, 4, 6;
//! - `scales` `F8_E4M3` `[R, C/16]`: a scale for 16 neighbours in a row;
//! - `global_scale` F32 `[1]`.
//!
//! A weight is the value of its code times (`scales` times `global_scale`): the global scale
//! **multiplies**, as `weight_scale_2` of Model Optimizer does; `weight_global_scale` of
//! compressed-tensors is one over it. Elements are rounded to nearest, ties to even. The global
//! scale is `max|w| / (6 · 256)` over all weights of the tensor. Model Optimizer uses 448
//! instead of 256, which leaves no larger scale to choose for the block with the largest weight.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.nvfp4","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! At most about a quarter of the block's largest weight, if that is at least 2^-13 of the largest
//! weight of all.
//!
//! # Cost
//! `9·R·C/16 + 4` bytes: 4.5 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows of whole blocks of 16. Other rows are refused, as by the software that
//! reads this format, and not padded. A block whose largest weight is at most 3.2e-7 of the
//! tensor's largest becomes zeros. A payload is refused if a scale is NaN, or if 6 times a scale
//! overflows f32.

use std::ops::Range;

use codec_api::{
    Bytes, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Need, Needs, PanelCut, PanelEncoder, Panels,
    Pass, Payload, PayloadView, Preset, Result, RowReader, Rows, Section, Statistics, Surveyed, TensorSpec, TensorView,
    check_rows, register_codec, statistics, typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, Lanes, Simd, kernel, lanes, load, magnitudes, max_abs, prefetch, store, stream};

use crate::blocks::{PART, by_parts, check_finite};
use crate::e2m1::{self, Blocks};
use crate::importance::ColumnImportance;
use crate::minifloat::{E2m1, E4m3, Minifloat, least, scale_for};
use crate::packing::unpack16;
use crate::panels::cut;

/// Weights that share a scale.
const BLOCK: usize = LANES;
/// Weights decoded per step. An encoder computes the starting scales of this many weights together.
const PIECE: usize = BLOCK * LANES;
/// The starting scale, `max|w| / 6`, of the block with the largest weight. Six E4M3 numbers are
/// larger; a block rarely needs more.
const TOP_SCALE: f32 = 256.0;
/// Number of candidate scales below `max|w| / 6`; there are [`LANES`] candidates in all.
const BELOW: u8 = 3;

/// Configuration of `quant.nvfp4`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Nvfp4 {
    /// Format version.
    pub version: FormatVersion<1>,
}

#[typetag::serde(name = "quant.nvfp4")]
impl Codec for Nvfp4 {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        spec.require_whole_blocks(BLOCK)
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.elements();
        CostEstimate::fixed((n / 2 + n / BLOCK + 4) as u64)
            .ops(200.0 * n as f64, 2.0 * n as f64)
            .scratch(ColumnImportance::scratch(spec, PART) + crate::widened_bytes(spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        self.accepts(tensor.spec())?;
        cx.cancel.check()?;
        let all = tensor.to_f32()?;
        let global = self.global_scale(&TensorView::from_f32(tensor.spec().shape(), &all)?, cx)?;
        let importance = ColumnImportance::new(tensor.spec(), cx, BLOCK)?;
        let mut packed = vec![0; all.len() / 2];
        let mut scales = vec![0; all.len() / BLOCK];
        by_parts(&all, PART, cx, |part| {
            let importance = importance.as_ref().map(|columns| columns.of(part.start, part.values.len()));
            let (scales, packed) = (part.of(&mut scales, BLOCK), part.of(&mut packed, 2));
            quantise(part.values, part.next, importance.as_deref(), global, scales, packed);
            max_abs(part.values)
        })?;
        Global(global).payload(tensor.spec(), packed, scales)
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

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        Some(self)
    }
}

/// The largest magnitude.
impl Surveyed for Nvfp4 {
    fn observe(&self, chunk: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics> {
        cx.cancel.check()?;
        let values = chunk.to_f32()?;
        let magnitude = max_abs(&values);
        check_finite(magnitude, &values, 0)?;
        Ok(Statistics::new(vec![magnitude.into()], Vec::new()))
    }

    fn combine(&self, _: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        let magnitude = chunks.iter().fold(0.0, |largest: f64, chunk| largest.max(chunk.scalars[0]));
        Ok(Pass::Last(Statistics::new(vec![magnitude], Vec::new())))
    }
}

impl Nvfp4 {
    /// The scale of the tensor.
    fn global_scale(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<f32> {
        let magnitude = statistics(self, tensor, cx)?.only()? as f32;
        Ok(scale_for(magnitude, E2m1::MOST * TOP_SCALE))
    }
}

impl Panels for Nvfp4 {
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut> {
        self.accepts(spec)?;
        Ok(cut(BLOCK))
    }

    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>> {
        let cut = self.cut(original.spec())?;
        e2m1::begin(Global(self.global_scale(&original, cx)?), cut, &original, cx)
    }
}

/// Blocks in a tensor with this global scale.
struct Global(f32);

impl Blocks for Global {
    fn choose(&self, values: &[f32], importance: Option<&[f32]>, scales: &mut [u8]) {
        quantise(values, &[], importance, self.0, scales, &mut vec![0; values.len() / 2]);
    }

    fn round(&self, x: f32, scale: u8) -> (u8, f32) {
        let scale = VALUES[usize::from(scale)];
        let (value, code) = E2m1::round_one(x / divisor(self.0) * inverse(scale));
        (code, value * (scale * self.0))
    }

    fn payload(&self, spec: &TensorSpec, packed: Vec<u8>, scales: Vec<u8>) -> Result<Payload> {
        let (rows, columns) = spec.matrix();
        Payload::new()
            .with("codes", Section::new(Dtype::U8, [rows, columns / 2], packed)?)?
            .with("scales", Section::new(Dtype::F8_E4M3, [rows, columns / BLOCK], scales)?)?
            .with("global_scale", Section::from_values(Dtype::F32, [1], vec![self.0])?)
    }
}

impl Rows for Nvfp4 {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        self.accepts(spec)?;
        let (rows, columns) = spec.matrix();
        let packed = payload.bytes("codes", Dtype::U8, &[rows, columns / 2])?.clone();
        let scales = payload.bytes("scales", Dtype::F8_E4M3, &[rows, columns / BLOCK])?.clone();
        let global = payload.values::<f32>("global_scale", Dtype::F32, &[1])?[0];
        let largest = scales.iter().fold(0, |largest: u8, scale| largest.max(scale & !E4m3::SIGN));
        if largest > E4m3::LARGEST {
            return Err(payload.corrupt("scales", "a scale is NaN"));
        }
        if !is_in_range(VALUES[usize::from(largest)] * global) {
            return Err(payload.corrupt("global_scale", format!("{global} makes weights beyond f32")));
        }
        Ok(Box::new(Nvfp4Rows { shape: (rows, columns), packed, scales, global }))
    }
}

/// The rows of a payload.
#[derive(Debug)]
struct Nvfp4Rows {
    shape: (usize, usize),
    packed: Bytes,
    scales: Bytes,
    global: f32,
}

impl RowReader for Nvfp4Rows {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let first = rows.start * self.shape.1;
        let (packed, scales) = (&self.packed[first / 2..], &self.scales[first / BLOCK..]);
        dequantise(&packed[..out.len() / 2], &scales[..out.len() / BLOCK], self.global, out);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        (self.packed.len() + self.scales.len()) as u64
    }
}

/// Whether all weights of a block with this scale are finite.
#[inline(always)]
fn is_in_range(scale: f32) -> bool {
    (scale * E2m1::MOST).is_finite()
}

/// Values of the scale codes from 0 up, padded with infinities so that [`LANES`] entries can be
/// loaded from any code on.
const VALUES: [f32; 127 + LANES] = {
    let mut values = [f32::INFINITY; 127 + LANES];
    let mut code = 0;
    while code < 127 {
        // E4M3 bits placed in the bits of an f32 mean 2^-120 of the value.
        values[code] = f32::from_bits((code as u32) << 20) * f32::from_bits((127 + 120) << 23);
        code += 1;
    }
    values
};

/// What weights are divided by. With a global scale of 0 all weights are zeros: avoid dividing by
/// it.
#[inline(always)]
fn divisor(global: f32) -> f32 {
    if global == 0.0 { 1.0 } else { global }
}

/// One over a scale, or 0 for 0.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

kernel! {
    /// Computes scales and codes of whole blocks, and prefetches `next`.
    fn quantise<'a>(
        simd,
        values: &'a [f32],
        next: &'a [f32],
        importance: Option<&'a [f32]>,
        global: f32,
        scales: &'a mut [u8],
        packed: &'a mut [u8],
    ) {
        let divisor = divisor(global);
        let pieces = values.chunks(PIECE).zip(packed.chunks_mut(PIECE / 2)).zip(scales.chunks_mut(LANES));
        for (i, ((values, packed), scales)) in pieces.enumerate() {
            let (blocks, packed) = (values.as_chunks::<BLOCK>().0, packed.as_chunks_mut::<{ BLOCK / 2 }>().0);
            let mut maxima = [0.0; LANES];
            for (x, maximum) in blocks.iter().zip(&mut maxima) {
                *maximum = simd.reduce_max(&magnitudes(simd.max_magnitude(&[0; LANES], x)));
            }
            let starts = E4m3::round(&lanes!(i => maxima[i] / divisor / E2m1::MOST));
            for (block, ((x, packed), code)) in blocks.iter().zip(packed).zip(scales).enumerate() {
                let at = i * PIECE + block * BLOCK;
                prefetch(next, at);
                let normal = lanes!(i => x[i] / divisor);
                *code = best_scale(simd, &normal, importance.map(|w| &w[at..]), starts[block], global);
                let inverse = inverse(VALUES[usize::from(*code)]);
                *packed = simd.pack_nibbles::<false>(&E2m1::round(&lanes!(i => normal[i] * inverse)));
            }
        }
    }
}

/// The scale code near `start` with the least squared error, for weights in units of the global
/// scale. Ties go to the smallest scale. If importances are given, they weight the errors, and ties
/// go to the scale without importances. Each lane tries one scale.
#[inline(always)]
fn best_scale<S: Simd>(simd: S, x: &Lanes<f32>, importance: Option<&[f32]>, start: u8, global: f32) -> u8 {
    let first = start.saturating_sub(BELOW);
    let scales = load(&VALUES[usize::from(first)..]);
    let errors = squared_errors(x, &[1.0; LANES], &scales, global);
    let gains: Lanes<f32> = lanes!(i => -errors[i]);
    let best = simd.at_least(&gains, &[simd.reduce_max(&gains); LANES]).trailing_zeros();
    let Some(importance) = importance else { return first + best as u8 };
    first + least(&squared_errors(x, &load(importance), &scales, global), best as usize) as u8
}

/// The squared error of a block for each scale, weighted by importance; infinite for a scale beyond
/// the range.
#[inline(always)]
fn squared_errors(x: &Lanes<f32>, importance: &Lanes<f32>, scales: &Lanes<f32>, global: f32) -> Lanes<f32> {
    // With a scale of 0 the inverse is infinite, and every weight still becomes 0.
    let inverses: Lanes<f32> = lanes!(i => 1.0 / scales[i]);
    let mut errors = [0.0; LANES];
    for (x, w) in x.iter().zip(importance) {
        let x = x.abs();
        let off: Lanes<f32> = lanes!(i => x - E2m1::round_magnitude(x * inverses[i]).0 * scales[i]);
        errors = lanes!(i => errors[i] + w * (off[i] * off[i]));
    }
    lanes!(i => if is_in_range(scales[i] * global) { errors[i] } else { f32::INFINITY })
}

kernel! {
    fn dequantise<'a>(simd, packed: &'a [u8], scales: &'a [u8], global: f32, out: &'a mut [f32]) {
        stream(out, |writer| {
            for (packed, codes) in packed.chunks(PIECE / 2).zip(scales.chunks(LANES)) {
                let out = writer.next(2 * packed.len()).as_chunks_mut::<BLOCK>().0;
                let mut scales = E4m3::widen(simd, &load(codes));
                store(lanes!(i => scales[i] * global), &mut scales);
                for ((out, packed), scale) in out.iter_mut().zip(packed.as_chunks::<{ BLOCK / 2 }>().0).zip(scales) {
                    let values = E2m1::widen(simd, &unpack16::<4, _>(simd, packed));
                    *out = lanes!(i => values[i] * scale);
                }
            }
        });
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("nvfp4", Nvfp4::default())]
}

register_codec!("quant.nvfp4", "NVIDIA's NVFP4: E2M1 floats, an E4M3 scale for every 16", presets);
