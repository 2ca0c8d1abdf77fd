//! ggml `Q2_K`, `quant.q2_k`: 2-bit integers, scales and minima of 4 bits for 16.
//!
//! # Source
//! ggml's `block_q2_K`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/256, 84]`: the blocks of the tensor in row-major order, 84 bytes for 256
//! weights:
//! - 16 bytes: scale `s[g]` in the low nibble, minimum `m[g]` in the high one;
//! - 64 bytes, 32 for each half of the weights: in a half, byte `j` has the codes of the weights
//!   `j`, `j + 32`, `j + 64`, `j + 96`, lowest first;
//! - `d`, F16;
//! - `dmin`, F16.
//!
//! Weights of group `g` are `(d·s[g])·q − dmin·m[g]`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q2_k","version":1}"#;
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
//! 84 bytes for 256 weights, 2.625 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 256. Magnitudes above 8e5 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{LANES, Simd, lanes};

use super::format::{f16_pair, u16_at};
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::superblock::{Coded, SuperBlock, WEIGHTS};
use super::two_bits;

ggml_codec!(
    #[typetag::serde(name = "quant.q2_k")]
    Q2K,
    superblock::SuperBlock<16>,
    "quant.q2_k",
    "ggml Q2_K: 2 bits, 4-bit scales and minima for 16"
);

/// Byte offsets of the codes and of `d`, which `dmin` follows.
const CODES: usize = 16;
const D: usize = 80;

impl SuperBlock<16> for Q2K {
    type Levels = IntegerLevels<0, 3>;
    const BYTES: usize = 84;
    const LARGEST: f32 = 8e5;
    const LEAST_SCALE: f32 = 0.0;
    const MOST_SCALE: f32 = 15.0;
    const MOST_MINIMUM: f32 = 15.0;

    #[inline(always)]
    fn pack(coded: &Coded<'_>, block: &mut [u8]) {
        for (byte, (scale, minimum)) in block.iter_mut().zip(coded.scales.iter().zip(coded.minima)) {
            *byte = *scale as u8 | (*minimum as u8) << 4;
        }
        two_bits::pack(coded.codes, &mut block[CODES..D]);
        block[D..D + 2].copy_from_slice(&coded.d.to_le_bytes());
        block[D + 2..].copy_from_slice(&coded.dmin.to_le_bytes());
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, block: &[u8], out: &mut [f32; WEIGHTS]) -> [u16; 2] {
        let bits = [u16_at(block, D), u16_at(block, D + 2)];
        let [d, dmin] = f16_pair(simd, bits);
        for (g, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let (scale, minimum) = (d * f32::from(block[g] & 15), dmin * f32::from(block[g] >> 4));
            let q = simd.u8_to_f32(&two_bits::unpack(&block[CODES..], g));
            *out = lanes!(i => scale * q[i] - minimum);
        }
        bits
    }
}
