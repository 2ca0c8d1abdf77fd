//! ggml `Q8_0`, `quant.q8_0`: 8-bit integers, a scale for 32.
//!
//! # Source
//! ggml's `block_q8_0`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/32, 34]`: the blocks of the tensor in row-major order, 34 bytes for 32 weights:
//! - `d`, F16;
//! - 32 bytes: the codes `q`, in two's complement.
//!
//! Weights are `q·d`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q8_0","version":1}"#;
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
//! 34 bytes for 32 weights, 8.5 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 32. Magnitudes above 8.3e6 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{LANES, Simd, lanes};

use super::block::{Block, Codes, WEIGHTS};
use super::format::u16_at;
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::linear::{Integers, Numbers};

ggml_codec!(
    #[typetag::serde(name = "quant.q8_0")]
    Q8_0,
    block::Block,
    "quant.q8_0",
    "ggml Q8_0: 8 bits, an F16 scale for 32"
);

impl Block for Q8_0 {
    type Levels = IntegerLevels<-127, 127>;
    const BYTES: usize = 34;
    const LARGEST: f32 = 8.3e6;
    const INTEGERS: Option<Integers> = Some(Integers { bits: 8, zero: 128, minima: false, read });

    #[inline(always)]
    fn pack(codes: &Codes, bytes: &mut [u8]) {
        for (byte, code) in bytes.iter_mut().zip(codes) {
            // Codes count from −127.
            *byte = code.wrapping_sub(127);
        }
    }

    #[inline(always)]
    fn unpack<S: Simd>(_: S, d: f32, _: f32, bytes: &[u8], out: &mut [f32; WEIGHTS]) {
        for (q, out) in bytes.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
            *out = lanes!(i => f32::from(q[i] as i8) * d);
        }
    }
}

/// Reads a block; codes count from −128.
fn read(block: &[u8], out: &mut Numbers<'_>) {
    *out.scale = u16_at(block, 0);
    for (code, byte) in out.codes.iter_mut().zip(&block[2..]) {
        *code = byte ^ 0x80;
    }
}
