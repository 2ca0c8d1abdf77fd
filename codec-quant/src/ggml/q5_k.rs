//! ggml `Q5_K`, `quant.q5_k`: 5-bit integers, scales and minima of 6 bits for 32.
//!
//! # Source
//! ggml's `block_q5_K`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/256, 176]`: the blocks of the tensor in row-major order, 176 bytes for 256
//! weights:
//! - `d`, F16;
//! - `dmin`, F16;
//! - 12 bytes: scales `s` and minima `m` of 6 bits, as in [`quant.q4_k`](super::Q4K);
//! - 32 bytes: bit `g` of byte `j` is the highest bit of the 5-bit code of weight `j` of group `g`;
//! - 128 bytes, 32 for two groups: the low nibbles have the low bits of the first group, the high
//!   nibbles those of the second.
//!
//! Weights of group `g` are `(d·s[g])·q − dmin·m[g]`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q5_k","version":1}"#;
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
//! 176 bytes for 256 weights, 5.5 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 256. Magnitudes above 4e6 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{LANES, Lanes, Simd, lanes, load};

use super::format::u16_at;
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::six;
use super::superblock::{Coded, SuperBlock, WEIGHTS};

ggml_codec!(
    #[typetag::serde(name = "quant.q5_k")]
    Q5K,
    superblock::SuperBlock<32>,
    "quant.q5_k",
    "ggml Q5_K: 5 bits, 6-bit scales and minima for 32"
);

/// Weights of a group.
const GROUP: usize = 32;
/// Byte offsets of the highest bits and of the low bits of the codes.
const HIGH: usize = 16;
const LOW: usize = HIGH + GROUP;

impl SuperBlock<32> for Q5K {
    type Levels = IntegerLevels<0, 31>;
    const BYTES: usize = 176;
    const LARGEST: f32 = 4e6;
    const LEAST_SCALE: f32 = 0.0;
    const MOST_SCALE: f32 = 63.0;
    const MOST_MINIMUM: f32 = 63.0;

    #[inline(always)]
    fn pack(coded: &Coded<'_>, block: &mut [u8]) {
        block[..HIGH].copy_from_slice(&six::header(coded));
        block[HIGH..LOW].fill(0);
        for (g, codes) in coded.codes.as_chunks::<GROUP>().0.iter().enumerate() {
            for (j, code) in codes.iter().enumerate() {
                let low = &mut block[LOW + g / 2 * GROUP + j];
                *low = if g % 2 == 0 { code & 15 } else { *low | code << 4 };
                block[HIGH + j] |= code >> 4 << g;
            }
        }
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, block: &[u8], out: &mut [f32; WEIGHTS]) -> [u16; 2] {
        let bits = [u16_at(block, 0), u16_at(block, 2)];
        let [scales, minima] = six::scales_and_minima(simd, bits, block);
        for (i, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let (g, start) = (i / 2, i % 2 * LANES);
            let low: Lanes<u8> = load(&block[LOW + g / 2 * GROUP + start..]);
            let high: Lanes<u8> = load(&block[HIGH + start..]);
            let q = simd.u8_to_f32(&lanes!(i => low[i] >> (g % 2 * 4) & 15 | (high[i] >> g & 1) << 4));
            *out = lanes!(i => scales[g] * q[i] - minima[g]);
        }
        bits
    }
}
