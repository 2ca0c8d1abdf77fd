//! Twelve bits for each BF16 weight, and access to any row, `lossless.bf16x12`.
//!
//! Sign and mantissa are copied. The exponents of trained weights take few values: the fifteen most
//! frequent ones form a palette, and each element has a 4-bit index into it. About one weight in
//! ten thousand has another exponent, which a separate list stores. All lengths but that of the
//! list are fixed, so that a matrix multiplication can decode any row it needs, with one look-up in
//! a table of sixteen for each weight. Products with a vector do so in registers; their sums have
//! the bits of those with the BF16 weights.
//!
//! The codec is registered for BF16 only and refuses other dtypes. A silent fallback for them would
//! promise fixed lengths and independent rows that it does not have.
//!
//! # Source
//! Separate exponents as in `ZipNN`, arXiv 2411.05239, section 3, and sign and mantissa in one byte
//! as in `DFloat11`, arXiv 2504.11651; codes of fixed length with an escape are ours.
//!
//! # Sections
//! With `n` elements in the tensor's flat order, `P ≤ 15` exponents in the palette, and `E`
//! elements with an exponent outside the palette:
//! - `low` U8 `[n]`: the sign in bit 7, the seven bits of the mantissa below it;
//! - `index` U8 `[⌈n/2⌉]`: four bits for each element, the first of two in the low nibble: the
//!   index of its exponent in the palette, or 15. The high nibble of an odd last element is 0;
//! - `palette` U8 `[P]`: the most frequent of the exponents that occur (among equally frequent ones
//!   the lower), ascending;
//! - `escapes` U8 `[E]`: exponents of the elements with index 15, in order;
//! - `escapes_before` U32 `[⌈n/1024⌉]`: for each block of 1024 elements the number of escapes in
//!   all previous blocks.
//!
//! If this would not be smaller than the stored bytes, or `E` exceeds 2³² − 1, there is only
//! - `data` BF16: the tensor itself, of its own shape.
//!
//! And always
//! - `crc32c` U32 `[1]`: CRC-32C of the stored bytes.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"lossless.bf16x12","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_lossless as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! Exact.
//!
//! # Cost
//! From `n + ⌈n/2⌉ + 4·⌈n/1024⌉ + 5` bytes, 12.03 bits per weight (for few elements `2·n + 4`), to
//! `2·n + 4`. The palette takes up to 15 bytes, each escape one.
//!
//! # Limits
//! BF16 only. The checksum covers the whole tensor: a decode of all rows finds every changed bit, a
//! reader of some rows only what contradicts the format.

mod decoder;
mod encode;
mod escapes;
mod linear;
mod palette;

use codec_api::util::{Checksum, widen};
use codec_api::{
    Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, Lossless, Payload,
    PayloadView, Preset, Result, RowReader, Rows, Section, TensorSpec, TensorView, register_codec, typetag,
};
use decoder::Decoder;
use serde::{Deserialize, Serialize};

/// Configuration of `lossless.bf16x12`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Bf16x12 {
    /// Format version.
    pub version: FormatVersion<1>,
}

/// Elements per escape count.
const BLOCK: usize = 1024;
/// Elements encoded or decoded between two checks for cancellation; they fit in the cache.
const PART: usize = 32 * BLOCK;
/// Elements decoded at a time on the stack.
const TILE: usize = 4 * BLOCK;

const LOW: &str = "low";
const INDEX: &str = "index";
const PALETTE: &str = "palette";
const ESCAPES: &str = "escapes";
const ESCAPES_BEFORE: &str = "escapes_before";
const DATA: &str = "data";

/// Bytes of all sections except the checksum.
fn packed_bytes(elements: usize, palette: usize, escapes: usize) -> usize {
    elements + elements.div_ceil(2) + palette + escapes + size_of::<u32>() * elements.div_ceil(BLOCK)
}

#[typetag::serde(name = "lossless.bf16x12")]
impl Codec for Bf16x12 {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        only_bf16(spec)
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (n, stored) = (spec.elements(), spec.byte_len());
        let least = packed_bytes(n, n.min(1), 0).min(stored);
        CostEstimate::between(least as u64 + Payload::CHECKSUM_BYTES, stored as u64 + Payload::CHECKSUM_BYTES)
            .ops(10.0 * n as f64, 5.0 * n as f64)
            // An encoder counts the exponents of a part.
            .scratch(n.min(PART) as u64)
            .rel_rmse(0.0)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let (spec, bytes) = (tensor.spec(), tensor.bytes());
        self.accepts(spec)?;
        let payload = if let Some(packed) = encode::pack(bytes, cx)? {
            packed
        } else {
            cx.progress.tick(spec.elements() as u64);
            Payload::new().with(DATA, Section::new(spec.dtype(), spec.shape(), bytes.to_vec())?)?
        };
        payload.with_checksum(bytes)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let decoder = Decoder::new(spec, &payload)?;
        let (mut checksum, mut tile) = (Checksum::default(), [0; 2 * TILE]);
        for (first, out) in (0..).step_by(TILE).zip(out.chunks_mut(TILE)) {
            cx.cancel.check()?;
            let tile = &mut tile[..2 * out.len()];
            decoder.stored(first, tile)?;
            checksum.update(tile);
            widen(Dtype::BF16, tile, out)?;
        }
        payload.verify(&checksum)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }
}

impl Lossless for Bf16x12 {
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        spec.check_output_bytes(out.len())?;
        let decoder = Decoder::new(spec, &payload)?;
        let mut checksum = Checksum::default();
        for (first, out) in (0..).step_by(PART).zip(out.chunks_mut(2 * PART)) {
            cx.cancel.check()?;
            decoder.stored(first, out)?;
            checksum.update(out);
        }
        payload.verify(&checksum)
    }
}

/// The checksum is that of all elements, so that rows are read without it.
impl Rows for Bf16x12 {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(Decoder::new(spec, &payload)?))
    }
}

fn only_bf16(spec: &TensorSpec) -> Result<()> {
    if spec.dtype() == Dtype::BF16 {
        return Ok(());
    }
    let reason = format!("dtype {}: twelve bits for each element are a form of BF16 alone", spec.dtype());
    Err(CodecError::Unsupported(reason))
}

register_codec!(
    "lossless.bf16x12",
    "BF16 in twelve bits, any row on its own: exponents from a palette of fifteen",
    || vec![Preset::new("default", Bf16x12::default())],
    .only(&[Dtype::BF16])
);
