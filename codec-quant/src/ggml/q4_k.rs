//! ggml `Q4_K`, `quant.q4_k`: 4-bit integers, scales and minima of 6 bits for 32.
//!
//! # Source
//! ggml's `block_q4_K`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/256, 144]`: the blocks of the tensor in row-major order, 144 bytes for 256
//! weights:
//! - `d`, F16;
//! - `dmin`, F16;
//! - 12 bytes, the 6-bit scales `s` and minima `m`. For `j` = 0 … 3, byte `j` has `s[j]` in its low
//!   six bits and the highest two bits of `s[j + 4]` above them; byte `4 + j` has the same bits of
//!   `m`; byte `8 + j` has the low four bits of `s[j + 4]` in its low nibble and those of
//!   `m[j + 4]` in its high nibble;
//! - 128 bytes, 32 for two groups: the low nibbles have the codes of the first group, the high
//!   nibbles those of the second.
//!
//! Weights of group `g` are `(d·s[g])·q − dmin·m[g]`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q4_k","version":1}"#;
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
//! 144 bytes for 256 weights, 4.5 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 256. Magnitudes above 4e6 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{Lanes, Simd, lanes};

use super::format::u16_at;
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::linear::{Integers, Numbers};
use super::nibbles::unpack_pair;
use super::six;
use super::superblock::{Coded, SuperBlock, WEIGHTS};

ggml_codec!(
    #[typetag::serde(name = "quant.q4_k")]
    Q4K,
    superblock::SuperBlock<32>,
    "quant.q4_k",
    "ggml Q4_K: 4 bits, 6-bit scales and minima for 32"
);

/// Weights of a group.
const GROUP: usize = 32;
/// Weights of two groups that share bytes.
const PAIR: usize = 64;
/// Byte offset of the codes.
const CODES: usize = 16;

impl SuperBlock<32> for Q4K {
    type Levels = IntegerLevels<0, 15>;
    const BYTES: usize = 144;
    const LARGEST: f32 = 4e6;
    const LEAST_SCALE: f32 = 0.0;
    const MOST_SCALE: f32 = 63.0;
    const MOST_MINIMUM: f32 = 63.0;
    const INTEGERS: Option<Integers> = Some(Integers { bits: 4, zero: 0, minima: true, read });

    #[inline(always)]
    fn pack(coded: &Coded<'_>, block: &mut [u8]) {
        block[..CODES].copy_from_slice(&six::header(coded));
        let pairs = coded.codes.as_chunks::<PAIR>().0.iter().zip(block[CODES..].as_chunks_mut::<GROUP>().0);
        for (codes, bytes) in pairs {
            for (j, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[j] | codes[j + GROUP] << 4;
            }
        }
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, block: &[u8], out: &mut [f32; WEIGHTS]) -> [u16; 2] {
        let bits = [u16_at(block, 0), u16_at(block, 2)];
        let [scales, minima] = six::scales_and_minima(simd, bits, block);
        let pairs = block[CODES..].as_chunks::<GROUP>().0.iter().zip(out.as_chunks_mut::<PAIR>().0);
        for (i, (bytes, out)) in pairs.enumerate() {
            let (g, h) = (2 * i, 2 * i + 1);
            let first: Lanes<f32> = lanes!(q => scales[g] * q as f32 - minima[g]);
            let second: Lanes<f32> = lanes!(q => scales[h] * q as f32 - minima[h]);
            unpack_pair(simd, &[first, second], bytes, out);
        }
        bits
    }
}

fn read(block: &[u8], out: &mut Numbers<'_>) {
    *out.scale = u16_at(block, 0);
    if let Some(minimum) = &mut out.minimum {
        **minimum = u16_at(block, 2);
    }
    let [scales, minima] = six::integers(block);
    out.factors.iter_mut().zip(scales).for_each(|(factor, scale)| *factor = scale as i8);
    out.minimum_factors.iter_mut().zip(minima).for_each(|(factor, minimum)| *factor = minimum as i8);
    for (codes, bytes) in out.codes.as_chunks_mut::<PAIR>().0.iter_mut().zip(block[CODES..].as_chunks::<GROUP>().0) {
        for (j, byte) in bytes.iter().enumerate() {
            (codes[j], codes[j + GROUP]) = (byte & 15, byte >> 4);
        }
    }
}
