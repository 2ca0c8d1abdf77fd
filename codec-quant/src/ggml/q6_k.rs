//! ggml `Q6_K`, `quant.q6_k`: 6-bit integers, scales of 8 bits for 16.
//!
//! # Source
//! ggml's `block_q6_K`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/256, 210]`: the blocks of the tensor in row-major order, 210 bytes for 256
//! weights:
//! - 128 bytes, 64 for each half of the weights: in a half, byte `j` has the low 4 bits of weight
//!   `j` in its low nibble and those of weight `j + 64` in its high nibble;
//! - 64 bytes, 32 for each half: in a half, byte `j` has the high 2 bits of the weights `j`,
//!   `j + 32`, `j + 64`, `j + 96`, lowest first;
//! - 16 bytes: the scales `s` of the groups of 16, in two's complement;
//! - `d`, F16.
//!
//! Weights of group `g` are `(d·s[g])·(q − 32)`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q6_k","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! About half of `d·s[g]`; more for a weight that the search for the least squared error clips.
//!
//! # Cost
//! 210 bytes for 256 weights, 6.5625 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 256. Magnitudes above 2e8 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{LANES, Lanes, Simd, lanes, load};

use super::format::{f16_pair, u16_at};
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::linear::{Integers, Numbers};
use super::superblock::{Coded, SuperBlock, WEIGHTS};

ggml_codec!(
    #[typetag::serde(name = "quant.q6_k")]
    Q6K,
    superblock::SuperBlock<16>,
    "quant.q6_k",
    "ggml Q6_K: 6 bits, 8-bit scales for 16"
);

/// Weights of a half.
const HALF: usize = 128;
/// Byte offsets of the high bits, the scales and `d`.
const HIGH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

impl SuperBlock<16> for Q6K {
    type Levels = IntegerLevels<-32, 31>;
    const BYTES: usize = 210;
    const LARGEST: f32 = 2e8;
    const LEAST_SCALE: f32 = -128.0;
    const MOST_SCALE: f32 = 127.0;
    const INTEGERS: Option<Integers> = Some(Integers { bits: 6, zero: 32, minima: false, read });

    #[inline(always)]
    fn pack(coded: &Coded<'_>, block: &mut [u8]) {
        for (h, q) in coded.codes.as_chunks::<HALF>().0.iter().enumerate() {
            let (low, high) = (h * HALF / 2, HIGH + h * HALF / 4);
            for j in 0..HALF / 2 {
                block[low + j] = q[j] & 15 | q[j + 64] << 4;
            }
            for j in 0..HALF / 4 {
                block[high + j] = q[j] >> 4 | q[j + 32] >> 4 << 2 | q[j + 64] >> 4 << 4 | q[j + 96] >> 4 << 6;
            }
        }
        for (byte, scale) in block[SCALES..D].iter_mut().zip(coded.scales) {
            *byte = *scale as i8 as u8;
        }
        block[D..].copy_from_slice(&coded.d.to_le_bytes());
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, block: &[u8], out: &mut [f32; WEIGHTS]) -> [u16; 2] {
        let bits = [u16_at(block, D), 0];
        let [d, _] = f16_pair(simd, bits);
        for (g, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            // Group `g` begins at weight `start` of half `h`.
            let (h, start) = (g / 8, g % 8 * LANES);
            let low: Lanes<u8> = load(&block[h * HALF / 2 + start % 64..]);
            let high: Lanes<u8> = load(&block[HIGH + h * HALF / 4 + start % 32..]);
            let (nibble, shift) = (start / 64 * 4, start / 32 * 2);
            let q = simd.u8_to_f32(&lanes!(i => low[i] >> nibble & 15 | (high[i] >> shift & 3) << 4));
            let scale = d * f32::from(block[SCALES + g] as i8);
            *out = lanes!(i => scale * (q[i] - 32.0));
        }
        bits
    }
}

fn read(block: &[u8], out: &mut Numbers<'_>) {
    *out.scale = u16_at(block, D);
    out.factors.iter_mut().zip(&block[SCALES..D]).for_each(|(factor, byte)| *factor = *byte as i8);
    for (h, q) in out.codes.as_chunks_mut::<HALF>().0.iter_mut().enumerate() {
        let (low, high) = (&block[h * HALF / 2..], &block[HIGH + h * HALF / 4..]);
        for (i, code) in q.iter_mut().enumerate() {
            *code = low[i % 64] >> (i / 64 * 4) & 15 | (high[i % 32] >> (i / 32 * 2) & 3) << 4;
        }
    }
}
