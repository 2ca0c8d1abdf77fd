//! ggml `IQ4_XS`, `quant.iq4_xs`: the levels of [`quant.iq4_nl`](super::Iq4Nl), scales of 6 bits
//! for 32.
//!
//! # Source
//! ggml's `block_iq4_xs`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/256, 136]`: the blocks of the tensor in row-major order, 136 bytes for 256
//! weights:
//! - `d`, F16;
//! - 2 bytes: bits `2g` and `2g + 1` of these 16, lowest first, are the two highest bits of the
//!   6-bit scale `s[g]`;
//! - 4 bytes: nibble `g`, the low one of a byte first, has the low four bits of `s[g]`;
//! - 128 bytes, 16 for each group: byte `j` has the code of weight `j` in its low nibble and that
//!   of weight `j + 16` in its high nibble.
//!
//! Weights of group `g` are `(d·(s[g] − 32))·level[q]`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.iq4_xs","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! Half the distance between two levels (at most 12) times `d·(s[g] − 32)`; more for a weight that
//! the search for the least squared error clips.
//!
//! # Cost
//! 136 bytes for 256 weights, 4.25 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 256. Magnitudes above 2e8 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{LANES, Simd, lanes};

use super::format::{f16_pair, u16_at};
use super::ggml_codec;
use super::levels::{IQ4, Iq4Levels};
use super::nibbles::{pack, unpack};
use super::superblock::{Coded, SuperBlock, WEIGHTS};

ggml_codec!(
    #[typetag::serde(name = "quant.iq4_xs")]
    Iq4Xs,
    superblock::SuperBlock<32>,
    "quant.iq4_xs",
    "ggml IQ4_XS: 16 uneven levels, 6-bit scales for 32"
);

/// Byte offset of the codes.
const CODES: usize = 8;

impl SuperBlock<32> for Iq4Xs {
    type Levels = Iq4Levels;
    const BYTES: usize = 136;
    const LARGEST: f32 = 2e8;
    const LEAST_SCALE: f32 = -32.0;
    const MOST_SCALE: f32 = 31.0;

    #[inline(always)]
    fn pack(coded: &Coded<'_>, block: &mut [u8]) {
        let (mut high, mut low) = (0u16, 0u32);
        for (g, scale) in coded.scales.iter().enumerate() {
            let scale = (scale + 32.0) as u8;
            high |= u16::from(scale >> 4) << (2 * g);
            low |= u32::from(scale & 15) << (4 * g);
        }
        block[..2].copy_from_slice(&coded.d.to_le_bytes());
        block[2..4].copy_from_slice(&high.to_le_bytes());
        block[4..CODES].copy_from_slice(&low.to_le_bytes());
        for (codes, bytes) in coded.codes.as_chunks().0.iter().zip(block[CODES..].chunks_mut(LANES)) {
            pack(codes, bytes);
        }
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, block: &[u8], out: &mut [f32; WEIGHTS]) -> [u16; 2] {
        let bits = [u16_at(block, 0), 0];
        let [d, _] = f16_pair(simd, bits);
        let high = u16_at(block, 2);
        for (g, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let low = block[4 + g / 2] >> (g % 2 * 4) & 15;
            let scale = d * (f32::from(low | ((high >> (2 * g) & 3) as u8) << 4) - 32.0);
            unpack(simd, &lanes!(q => scale * IQ4[q]), &block[CODES + g * LANES..], out);
        }
        bits
    }
}
