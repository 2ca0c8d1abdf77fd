//! ggml `IQ4_NL`, `quant.iq4_nl`: 16 levels that are not evenly spaced, a scale for 32.
//!
//! # Source
//! ggml's `block_iq4_nl`, as the Python package `gguf` decodes it.
//!
//! # Sections
//! `blocks` U8 `[n/32, 18]`: the blocks of the tensor in row-major order, 18 bytes for 32 weights:
//! - `d`, F16;
//! - 16 bytes: byte `j` has the code of weight `j` in its low nibble and that of weight `j + 16` in
//!   its high nibble.
//!
//! Weights are `level[q]·d` with the levels −127, −104, −83, −65, −49, −35, −22, −10, 1, 13, 25,
//! 38, 53, 69, 89, 113.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.iq4_nl","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! Half the distance between two levels (at most 12) times `d`; more for a weight that
//! the search for the least squared error clips.
//!
//! # Cost
//! 18 bytes for 32 weights, 4.5 bits per weight.
//!
//! # Limits
//! F32, F16 and BF16; rows whose length is a multiple of 32. Magnitudes above 7.3e6 are
//! refused, and also tensors so small that all weights would become 0 (the smallest F16 is 6e-8).

use codec_api::typetag;
use simd::{Simd, lanes};

use super::block::{Block, Codes, WEIGHTS};
use super::ggml_codec;
use super::levels::{IQ4, Iq4Levels};
use super::nibbles::{pack, unpack};

ggml_codec!(
    #[typetag::serde(name = "quant.iq4_nl")]
    Iq4Nl,
    block::Block,
    "quant.iq4_nl",
    "ggml IQ4_NL: 16 uneven levels, an F16 scale for 32"
);

impl Block for Iq4Nl {
    type Levels = Iq4Levels;
    const BYTES: usize = 18;
    const LARGEST: f32 = 7.3e6;
    const REFITTED: bool = true;

    #[inline(always)]
    fn pack(codes: &Codes, bytes: &mut [u8]) {
        pack(codes, bytes);
    }

    #[inline(always)]
    fn unpack<S: Simd>(simd: S, d: f32, _: f32, bytes: &[u8], out: &mut [f32; WEIGHTS]) {
        unpack(simd, &lanes!(i => IQ4[i] * d), bytes, out);
    }
}
