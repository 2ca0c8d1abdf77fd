//! ggml `Q5_0`, `quant.q5_0`: 5-bit integers, a scale for 32.
//!
//! # Source
//! ggml's `block_q5_0`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/32, 22]`: the blocks of the tensor in row-major order, 22 bytes for 32 weights:
//! - `d`, F16;
//! - 4 bytes: bit `i` of these 32, lowest first, is the highest bit of the 5-bit code of weight
//!   `i`;
//! - 16 bytes: byte `j` has the low bits of weight `j` in its low nibble and those of weight
//!   `j + 16` in its high nibble.
//!
//! Weights are `(q − 16)·d`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q5_0","version":1}"#;
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
//! 22 bytes for 32 weights, 5.5 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 32. Magnitudes above 9.8e5 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{LANES, Simd, lanes};

use super::block::{Block, Codes, WEIGHTS};
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::nibbles::{five_bits, high_bits, pack};

ggml_codec!(
    #[typetag::serde(name = "quant.q5_0")]
    Q5_0,
    block::Block,
    "quant.q5_0",
    "ggml Q5_0: 5 bits, an F16 scale for 32"
);

impl Block for Q5_0 {
    type Levels = IntegerLevels<-16, 15>;
    const BYTES: usize = 22;
    const LARGEST: f32 = 9.8e5;

    #[inline(always)]
    fn pack(codes: &Codes, bytes: &mut [u8]) {
        let (high, low) = bytes.split_at_mut(4);
        high.copy_from_slice(&high_bits(codes).to_le_bytes());
        pack(codes, low);
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, d: f32, _: f32, bytes: &[u8], out: &mut [f32; WEIGHTS]) {
        for (q, out) in five_bits(bytes).as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
            let q = simd.u8_to_f32(q);
            *out = lanes!(i => (q[i] - 16.0) * d);
        }
    }
}
