//! ggml `Q3_K`, `quant.q3_k`: 3-bit integers, scales of 6 bits for 16.
//!
//! # Source
//! ggml's `block_q3_K`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/256, 110]`: the blocks of the tensor in row-major order, 110 bytes for 256
//! weights:
//! - 32 bytes: bit `i` of byte `j` is the high bit of weight `32·i + j`;
//! - 64 bytes, 32 for each half of the weights: in a half, byte `j` has the low 2 bits of the
//!   weights `j`, `j + 32`, `j + 64`, `j + 96`, lowest first;
//! - 12 bytes, the 6-bit scales `s`: byte `j` < 8 has the low 4 bits of `s[j]` in its low nibble
//!   and those of `s[j + 8]` in its high nibble; byte `8 + j` has the high 2 bits of `s[j]`,
//!   `s[j + 4]`, `s[j + 8]`, `s[j + 12]`, lowest first;
//!
//! Weights of group `g` are `(d·(s[g] − 32))·(q − 4)`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q3_k","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! About half of `d·(s[g] − 32)`; more for a weight that the search for the least squared error
//! clips.
//!
//! # Cost
//! 110 bytes for 256 weights, 3.4375 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 256. Magnitudes above 6e6 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{LANES, Lanes, Simd, lanes, load};

use super::format::{f16_pair, u16_at};
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::superblock::{Coded, SuperBlock, WEIGHTS};
use super::two_bits;

ggml_codec!(
    #[typetag::serde(name = "quant.q3_k")]
    Q3K,
    superblock::SuperBlock<16>,
    "quant.q3_k",
    "ggml Q3_K: 3 bits, 6-bit scales for 16"
);

/// Byte offsets of the low bits, the scales and `d`.
const LOW: usize = 32;
const SCALES: usize = 96;
const D: usize = 108;

impl SuperBlock<16> for Q3K {
    type Levels = IntegerLevels<-4, 3>;
    const BYTES: usize = 110;
    const LARGEST: f32 = 6e6;
    const LEAST_SCALE: f32 = -32.0;
    const MOST_SCALE: f32 = 31.0;

    #[inline(always)]
    fn pack(coded: &Coded<'_>, block: &mut [u8]) {
        block[..LOW].fill(0);
        for (i, q) in coded.codes.as_chunks::<LOW>().0.iter().enumerate() {
            for (byte, q) in block[..LOW].iter_mut().zip(q) {
                *byte |= q >> 2 << i;
            }
        }
        two_bits::pack(coded.codes, &mut block[LOW..SCALES]);
        block[SCALES..D].copy_from_slice(&packed(coded.scales));
        block[D..].copy_from_slice(&coded.d.to_le_bytes());
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, block: &[u8], out: &mut [f32; WEIGHTS]) -> [u16; 2] {
        let bits = [u16_at(block, D), 0];
        let [d, _] = f16_pair(simd, bits);
        let scales = unpacked(&load(&block[SCALES..D]));
        for (g, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let low = two_bits::unpack(&block[LOW..], g);
            let high: Lanes<u8> = load(&block[g % 2 * LANES..]);
            let q = simd.u8_to_f32(&lanes!(i => low[i] | (high[i] >> (g / 2) & 1) << 2));
            let scale = d * (f32::from(scales[g]) - 32.0);
            *out = lanes!(i => scale * (q[i] - 4.0));
        }
        bits
    }
}

/// Scales of −32 to 31 in 12 bytes.
#[inline(always)]
fn packed(scales: &[f32]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (g, scale) in scales.iter().enumerate() {
        let scale = (scale + 32.0) as u8;
        bytes[g % 8] |= (scale & 15) << (g / 8 * 4);
        bytes[8 + g % 4] |= scale >> 4 << (g / 4 * 2);
    }
    bytes
}

/// Unpacks the scales, each plus 32.
#[inline(always)]
fn unpacked(bytes: &Lanes<u8>) -> Lanes<u8> {
    lanes!(g => bytes[g % 8] >> (g / 8 * 4) & 15 | (bytes[8 + g % 4] >> (g / 4 * 2) & 3) << 4)
}
