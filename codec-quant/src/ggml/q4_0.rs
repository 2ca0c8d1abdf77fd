//! ggml `Q4_0`, `quant.q4_0`: 4-bit integers, a scale for 32.
//!
//! # Source
//! ggml's `block_q4_0`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/32, 18]`: the blocks of the tensor in row-major order, 18 bytes for 32 weights:
//! - `d`, F16;
//! - 16 bytes: byte `j` has the code of weight `j` in its low nibble and that of weight `j + 16` in
//!   its high nibble.
//!
//! Weights are `(q − 8)·d`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q4_0","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! About half of `d`; more for a weight that the search for the least squared error clips.
//!
//! # Cost
//! 18 bytes for 32 weights, 4.5 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 32. Magnitudes above 4.5e5 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{Simd, lanes};

use super::block::{Block, Codes, WEIGHTS};
use super::format::u16_at;
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::linear::{Integers, Numbers};
use super::nibbles::{pack, unpack};

ggml_codec!(
    #[typetag::serde(name = "quant.q4_0")]
    Q4_0,
    block::Block,
    "quant.q4_0",
    "ggml Q4_0: 4 bits, an F16 scale for 32"
);

impl Block for Q4_0 {
    type Levels = IntegerLevels<-8, 7>;
    const BYTES: usize = 18;
    const LARGEST: f32 = 4.5e5;
    const INTEGERS: Option<Integers> = Some(Integers { bits: 4, zero: 8, minima: false, read });

    #[inline(always)]
    fn pack(codes: &Codes, bytes: &mut [u8]) {
        pack(codes, bytes);
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, d: f32, _: f32, bytes: &[u8], out: &mut [f32; WEIGHTS]) {
        unpack(simd, &lanes!(i => (i as f32 - 8.0) * d), bytes, out);
    }
}

fn read(block: &[u8], out: &mut Numbers<'_>) {
    *out.scale = u16_at(block, 0);
    let (low, high) = out.codes.split_at_mut(WEIGHTS / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}
