//! Four-bit normal float, `quant.nf4`: each weight becomes the nearest of sixteen levels, which are
//! quantiles of the normal distribution, in units of the largest weight of its block.
//!
//! # Source
//! QLoRA: Dettmers et al., arXiv 2305.14314, section 3 and appendix E (the levels). Double
//! quantisation stores the block maxima in 8 bits as there, but on a square-law scale instead of
//! QLoRA's 8-bit float: `absmax = scale · (code / 255)²`. The size is the same, and no table is
//! needed. The relative precision is 0.4 % at the top and still 12 % for a maximum a thousand times
//! smaller than its neighbours'.
//!
//! With calibration the encoder searches the absmax of each block for the least squared error; an
//! error counts as much as the mean square of its input, relative to the largest one and at least
//! 10⁻⁶. The largest weight of the block is one of the candidates. If the inputs run along the
//! rows, only the absmax of a block that crosses rows is searched, because all weights of a row
//! count the same.
//!
//! # Sections
//! With `B = ⌈n/64⌉` blocks over the flat tensor of `n` weights:
//! - `codes` U8 `[⌈n/2⌉]`: two codes per byte, the first in the high nibble (as bitsandbytes packs
//!   them);
//! - `absmax` F32 `[B]`, or with `double_quant` `absmax` U8 `[B]` and `absmax_scale` F32
//!   `[⌈B/256⌉]`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.nf4","version":1,"double_quant":true}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! At most 0.152 of the block's largest weight (half the widest gap between levels) without double
//! quantisation and calibration.
//!
//! # Cost
//! `⌈n/2⌉ + 4·B` bytes, 4.5 bits per weight; with double quantisation `⌈n/2⌉ + B + 4·⌈B/256⌉`,
//! 4.127 bits per weight. With calibration an encode compares about forty maxima for each block.
//!
//! # Limits
//! F32, F16 and BF16. A block becomes zeros if it has no weight above 1.2e-38, or with
//! `double_quant` if its largest weight is below 3.8e-6 of the largest in its 256 blocks. Blocks
//! run across rows; a chunk of rows starts a new block. An encode in panels needs rows of whole
//! blocks, or a single row; a maximum that feedback makes larger than its absmax scale becomes that
//! scale.

mod fit;
mod panels;

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::util::{Importance, read_blocks};
use codec_api::{
    Bytes, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Need, Needs, Panels, Payload, PayloadView,
    Preset, Result, RowReader, Rows, Section, TensorSpec, TensorView, check_rows, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, Simd, kernel, lanes, load, magnitudes, max_abs, prefetch, store, stream};

use crate::blocks::by_parts;
use fit::Fit;

/// Weights that share an absmax.
const BLOCK: usize = 64;
/// Blocks that share an absmax scale.
const SUPER: usize = 256;

/// The levels, exactly as f32.
const LEVELS: [f32; LANES] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Configuration of `quant.nf4`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Nf4 {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Store the block maxima in 8 bits.
    pub double_quant: bool,
}

impl Nf4 {
    /// NF4 with block maxima in 8 bits if `double_quant`, in f32 otherwise.
    pub fn new(double_quant: bool) -> Self {
        Self { version: FormatVersion, double_quant }
    }
}

#[typetag::serde(name = "quant.nf4")]
impl Codec for Nf4 {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.elements();
        let blocks = n.div_ceil(BLOCK);
        let maxima = if self.double_quant { blocks + 4 * blocks.div_ceil(SUPER) } else { 4 * blocks };
        let scratch = 4 * blocks as u64 + crate::importance_bytes(spec) + crate::widened_bytes(spec);
        CostEstimate::fixed((n.div_ceil(2) + maxima) as u64).ops(40.0 * n as f64, 2.0 * n as f64).scratch(scratch)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let all = tensor.to_f32()?;
        let importance = Importance::new(tensor.spec(), cx)?;
        let (mut packed, mut maxima) = (vec![0; all.len().div_ceil(2)], Maxima::new(self, all.len()));
        by_parts(&all, BLOCK * SUPER, cx, |part| {
            let absmax = part.of(&mut maxima.absmax, BLOCK);
            block_maxima(part.values, absmax);
            let scale = max_abs(absmax);
            if let Some(importance) = &importance {
                let columns = tensor.spec().matrix().1;
                let fit = Fit { importance, columns, scale: self.double_quant.then_some(scale) };
                fit.search(part.values, part.start, absmax);
            }
            if self.double_quant {
                quantise_maxima(absmax, scale, part.of(&mut maxima.codes, BLOCK));
                maxima.scales.push(scale);
            }
            quantise(part.values, part.next, absmax, part.of(&mut packed, 2));
            scale
        })?;
        maxima.payload(self, packed)
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

/// The maxima of all blocks.
struct Maxima {
    /// With double quantisation, what a decoder gives.
    absmax: Vec<f32>,
    /// Codes and scales of double quantisation.
    codes: Vec<u8>,
    scales: Vec<f32>,
}

impl Maxima {
    fn new(codec: &Nf4, weights: usize) -> Self {
        let blocks = weights.div_ceil(BLOCK);
        let codes = vec![0; if codec.double_quant { blocks } else { 0 }];
        Self { absmax: vec![0.0; blocks], codes, scales: Vec::new() }
    }

    fn payload(self, codec: &Nf4, packed: Vec<u8>) -> Result<Payload> {
        let payload = Payload::new().with("codes", Section::from_bytes(packed)?)?;
        if !codec.double_quant {
            return payload.with("absmax", Section::from_values(Dtype::F32, [self.absmax.len()], self.absmax)?);
        }
        payload
            .with("absmax", Section::from_bytes(self.codes)?)?
            .with("absmax_scale", Section::from_values(Dtype::F32, [self.scales.len()], self.scales)?)
    }
}

impl Rows for Nf4 {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        let blocks = spec.elements().div_ceil(BLOCK);
        let codes = payload.bytes("codes", Dtype::U8, &[spec.elements().div_ceil(2)])?.clone();
        let maxima = if self.double_quant {
            let codes = payload.bytes("absmax", Dtype::U8, &[blocks])?;
            let scales: Vec<f32> = payload.values("absmax_scale", Dtype::F32, &[blocks.div_ceil(SUPER)])?;
            let scaled = codes.chunks(SUPER).zip(scales);
            scaled.flat_map(|(codes, scale)| codes.iter().map(move |code| dequantise_maximum(*code, scale))).collect()
        } else {
            payload.values("absmax", Dtype::F32, &[blocks])?
        };
        Ok(Box::new(Reader { shape: spec.matrix(), codes, maxima }))
    }
}

#[derive(Debug)]
struct Reader {
    shape: (usize, usize),
    codes: Bytes,
    maxima: Vec<f32>,
}

impl RowReader for Reader {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn granule(&self) -> NonZeroUsize {
        crate::rows_of_block(BLOCK, self.shape.1)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let (all, columns) = self.shape;
        let places = rows.start * columns..rows.end * columns;
        read_blocks::<BLOCK>(all * columns, places, out, |block, out| {
            let codes = &self.codes[block * BLOCK / 2..][..out.len().div_ceil(2)];
            dequantise(codes, &self.maxima[block..], out);
        });
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        (self.codes.len() + size_of_val(&*self.maxima)) as u64
    }
}

kernel! {
    /// Codes block maxima in 8 bits relative to `scale`, their largest, and replaces them by the
    /// decoded maxima.
    fn quantise_maxima<'a>(_simd, maxima: &'a mut [f32], scale: f32, codes: &'a mut [u8]) {
        for (m, codes) in maxima.chunks_mut(LANES).zip(codes.chunks_mut(LANES)) {
            let x = load(m);
            let coded: [u8; LANES] = lanes!(i => quantise_maximum(x[i], scale));
            store(coded, codes);
            store(lanes!(i => dequantise_maximum(coded[i], scale)), m);
        }
    }
}

#[inline(always)]
fn quantise_maximum(maximum: f32, scale: f32) -> u8 {
    // With a scale of 0 all maxima are 0: avoid dividing by it.
    let divisor = if scale == 0.0 { 1.0 } else { scale };
    ((maximum / divisor).sqrt() * 255.0).round_ties_even() as u8
}

#[inline(always)]
fn dequantise_maximum(code: u8, scale: f32) -> f32 {
    let root = f32::from(code) / 255.0;
    scale * (root * root)
}

kernel! {
    /// `max |x|` of each block; infinite if a value is not finite.
    fn block_maxima<'a>(simd, values: &'a [f32], maxima: &'a mut [f32]) {
        for (block, maximum) in values.chunks(BLOCK).zip(maxima) {
            let mut largest = [0; LANES];
            let (blocks, rest) = block.as_chunks::<LANES>();
            for x in blocks {
                largest = simd.max_magnitude(&largest, x);
            }
            largest = simd.max_magnitude(&largest, &load(rest));
            *maximum = simd.reduce_max(&magnitudes(largest));
        }
    }
}

kernel! {
    /// Codes all blocks, two codes per byte, and prefetches `next`.
    fn quantise<'a>(simd, values: &'a [f32], next: &'a [f32], maxima: &'a [f32], packed: &'a mut [u8]) {
        let blocks = values.chunks(BLOCK).zip(packed.chunks_mut(BLOCK / 2)).zip(maxima);
        for (i, ((block, packed), absmax)) in blocks.enumerate() {
            for line in 0..BLOCK / LANES {
                prefetch(next, i * BLOCK + line * LANES);
            }
            let inverse = inverse_of(*absmax);
            let (blocks, rest) = block.as_chunks::<LANES>();
            let (full, last) = packed.split_at_mut(blocks.len() * LANES / 2);
            for (x, bytes) in blocks.iter().zip(full.as_chunks_mut().0) {
                *bytes = simd.pack_nibbles::<true>(&simd.rank16(&MIDDLES, &lanes!(i => x[i] * inverse)));
            }
            if !rest.is_empty() {
                let x = load(rest);
                let mut codes = simd.rank16(&MIDDLES, &lanes!(i => x[i] * inverse));
                codes[rest.len()..].fill(0);
                last.copy_from_slice(&simd.pack_nibbles::<true>(&codes)[..last.len()]);
            }
        }
    }
}

/// The inverse of a subnormal number may overflow f32, so such a block becomes zeros.
#[inline(always)]
fn inverse_of(absmax: f32) -> f32 {
    if absmax.is_normal() { 1.0 / absmax } else { 0.0 }
}

/// Midpoints between the levels.
const MIDDLES: [f32; LANES] = crate::middles(&LEVELS);

kernel! {
    fn dequantise<'a>(simd, packed: &'a [u8], maxima: &'a [f32], out: &'a mut [f32]) {
        /// Blocks decoded per step.
        const AT_ONCE: usize = 8;
        let mut left = out.len();
        stream(out, |writer| {
            for (packed, maxima) in packed.chunks(AT_ONCE * BLOCK / 2).zip(maxima.chunks(AT_ONCE)) {
                let out = writer.next(left.min(AT_ONCE * BLOCK));
                left -= out.len();
                for ((out, packed), absmax) in out.chunks_mut(BLOCK).zip(packed.chunks(BLOCK / 2)).zip(maxima) {
                    let (blocks, rest) = out.as_chunks_mut::<LANES>();
                    let (full, last) = packed.split_at(blocks.len() * LANES / 2);
                    for (out, bytes) in blocks.iter_mut().zip(full.as_chunks().0) {
                        *out = weights(simd, &unpacked(*bytes), *absmax);
                    }
                    if !rest.is_empty() {
                        let mut bytes = [0; LANES / 2];
                        bytes[..last.len()].copy_from_slice(last);
                        store(weights(simd, &unpacked(bytes), *absmax), rest);
                    }
                }
            }
        });
    }
}

/// Sixteen codes, the first of each byte in the high nibble.
#[inline(always)]
fn unpacked(bytes: [u8; LANES / 2]) -> [u8; LANES] {
    let mut codes = [0; LANES];
    for (pair, byte) in codes.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [byte >> 4, byte & 15];
    }
    codes
}

#[inline(always)]
fn weights<S: Simd>(simd: S, codes: &[u8; LANES], absmax: f32) -> [f32; LANES] {
    let levels = simd.lookup16(&LEVELS, codes);
    lanes!(i => levels[i] * absmax)
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("f32-absmax", Nf4::new(false)), Preset::new("double-quant", Nf4::new(true))]
}

register_codec!("quant.nf4", "4-bit normal float in blocks of 64", presets);
