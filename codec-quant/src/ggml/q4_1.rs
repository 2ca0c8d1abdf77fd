//! ggml `Q4_1`, `quant.q4_1`: 4-bit integers, a scale and a minimum for 32.
//!
//! # Source
//! ggml's `block_q4_1`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/32, 20]`: the blocks of the tensor in row-major order, 20 bytes for 32 weights:
//! - `d`, F16;
//! - `m`, F16;
//! - 16 bytes: byte `j` has the code of weight `j` in its low nibble and that of weight `j + 16` in
//!   its high nibble.
//!
//! Weights are `q·d + m`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.q4_1","version":1}"#;
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
//! 20 bytes for 32 weights, 5 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 32. Magnitudes above 65504 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{Simd, lanes};

use super::block::{Block, Codes, WEIGHTS};
use super::ggml_codec;
use super::levels::IntegerLevels;
use super::nibbles::{pack, unpack};

ggml_codec!(
    #[typetag::serde(name = "quant.q4_1")]
    Q4_1,
    block::Block,
    "quant.q4_1",
    "ggml Q4_1: 4 bits, an F16 scale and minimum for 32"
);

impl Block for Q4_1 {
    type Levels = IntegerLevels<0, 15>;
    const BYTES: usize = 20;
    const LARGEST: f32 = 65504.0;
    const MINIMUM: bool = true;

    #[inline(always)]
    fn pack(codes: &Codes, bytes: &mut [u8]) {
        pack(codes, bytes);
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, d: f32, m: f32, bytes: &[u8], out: &mut [f32; WEIGHTS]) {
        unpack(simd, &lanes!(i => i as f32 * d + m), bytes, out);
    }
}
