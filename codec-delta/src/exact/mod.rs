//! Weights bit for bit as the difference from a base tensor, `delta.exact`.
//!
//! Floats of one dtype can be numbered in the order of their values. The difference of two numbers
//! is small if the weights are close. Its size depends on the exponent: the same change moves a
//! small weight by many units in its last place, and a large one by none. Encoder and decoder both
//! have the base, so the exponent of the base's float selects the table that codes the difference.
//!
//! Tables have 2¹² slots, too few for large alphabets. So a difference is coded as a symbol of its
//! first bits, followed by raw bits. Neighbouring contexts share a table where two tables would
//! cost more than they save, so that small tensors do not pay for the contexts of large ones.
//!
//! This crate is the only codec crate that depends on another one, `codec-lossless`: a tensor whose
//! difference is not smaller is stored with `lossless:level=max`.
//!
//! # Source
//! Ordered integers and their difference as in `FM-Delta`, Ning et al. 2024; tables by the base's
//! exponent are ours. The coder comes from the crate `entropy`.
//!
//! # Sections
//! Relative to a base: `base` U8 `[32]`, blake3 of the whole base's stored bytes. A tensor equal to
//! its base has only this section and the seal. Otherwise, for F64, F32, F16, BF16, `F8_E4M3` and
//! `F8_E5M2`,
//! - `symbols` U8: a coded plane (`entropy::plane`) of one symbol for each element. The context of
//!   an element is the exponent field of the base; for F64 that field minus 896, clamped to 0…255;
//! - `raw` U8: the uncoded bits, the first at the lowest bit of the first byte; the last byte is
//!   padded with zeros.
//!
//! If at most one element in 512 differs, `symbols` is the plane of only these elements, and there
//! are
//! - `gaps` U8: a coded plane: for each of these elements, the number of equal elements since the
//!   previous one that differs; a byte of 255 stands for 255 equal elements and is continued by the
//!   next byte;
//! - `gap_bytes` U64 `[1]`: the decoded length of that plane in bytes.
//!
//! The number of a float is its bits with the sign bit set, or with all bits inverted if the float
//! is negative. The difference is that of the float's number and the base's, modulo `2ᵂ` for W
//! bits, starting at `−2ᵂ⁻¹`. With `T = 3` (2 for F64) a magnitude `m` below `2ᵀ⁺¹` is its own
//! symbol, and `r` is 0. Otherwise, with `r` such that `2ᵀ ≤ ⌊m/2ʳ⌋ < 2ᵀ⁺¹`, the symbol is
//! `r·2ᵀ + ⌊m/2ʳ⌋`. Each element with a symbol other than 0 has `1 + r` raw bits: 1 if the
//! difference is negative, then the low `r` bits of `m`.
//!
//! Without a base, or if the base does not help, there is only `alone/…`, the sections of
//! `lossless:level=max`. All other payloads also have
//! - `padding` U8, zeros, if the rest takes less than a 2²⁰th of the stored bytes;
//! - `seal` U32 `[1]`: CRC-32C of the stored bytes followed by those of all other sections in the
//!   order of their names. So it also detects changed bits that change no weight, for example in
//!   contexts that share a table.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"delta.exact","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_delta as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! No error: every bit is restored.
//!
//! # Cost
//! From a 2²⁰th of the stored size to the stored size + 4 bytes.
//!
//! # Limits
//! None: every dtype and shape. A payload that names a base decodes with that base only. Decoding
//! to f32 exists for F32, F16 and BF16. Rows decode only together.

mod gaps;
mod symbols;

use codec_api::util::decode_exact;
use codec_api::{
    Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Lossless, Need, Needs, Payload,
    PayloadView, Preset, Result, Section, TensorSpec, TensorView, register_codec, typetag,
};
use codec_lossless::exact::{Exact, Level, likely_least};
use entropy::plane::{self, Known, Reader};
use serde::{Deserialize, Serialize};
use symbols::{Difference, FloatFormat, Sum};

/// Configuration of `delta.exact`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ExactDelta {
    /// Format version.
    pub version: FormatVersion<1>,
}

/// Stores a tensor without a useful base.
const ALONE: Exact = Exact::new(Level::Max);
const SCOPE: &str = "alone";

const SYMBOLS: &str = "symbols";
const RAW: &str = "raw";
const GAPS: &str = "gaps";
const GAP_BYTES: &str = "gap_bytes";

#[typetag::serde(name = "delta.exact")]
impl Codec for ExactDelta {
    fn needs(&self) -> Needs {
        Needs::default().base(Need::Uses)
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.byte_len() as u64;
        ALONE.cost(spec).ops(12.0 * n as f64, 6.0 * n as f64).scratch(6 * n + (8 << 20))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let (spec, bytes) = (tensor.spec(), tensor.bytes());
        let payload = match encode_relative(&tensor, cx)? {
            // The tensor alone, which takes longer to encode, is tried only if it may be smaller.
            Some(payload) if payload.bytes() < bytes.len() as u64 / 2 || payload.bytes() < likely_least(&tensor) => {
                payload
            }
            relative => {
                let alone = ALONE.encode(tensor.clone(), &cx.for_child(SCOPE))?;
                let alone = Payload::new().with_scope(SCOPE, alone)?;
                relative.filter(|payload| payload.bytes() < alone.bytes()).unwrap_or(alone)
            }
        };
        cx.progress.tick(spec.elements() as u64);
        Ok(payload)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        decode_exact(self, spec, payload, cx, out)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }
}

/// The tensor as a difference. `None` without a base, or if the dtype has no difference form and
/// the tensor does not equal its base.
fn encode_relative(tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Option<Payload>> {
    if cx.base.is_none() {
        return Ok(None);
    }
    let (spec, bytes) = (tensor.spec(), tensor.bytes());
    let base = cx.base_of(spec)?;
    let mut payload = Payload::new().with_base(base.id)?;
    if bytes != base.view.bytes() {
        let Some(format) = FloatFormat::of(spec.dtype()) else { return Ok(None) };
        let Difference { symbols, raw } = symbols::difference(format, bytes, base.view.bytes());
        cx.cancel.check()?;
        payload = with_symbols(payload, &symbols, &format.contexts(base.view.bytes()))?
            .with(RAW, Section::from_bytes(raw)?)?;
    }
    payload.sealed(bytes).map(Some)
}

fn with_symbols(payload: Payload, symbols: &[u8], contexts: &[u8]) -> Result<Payload> {
    let coded = |bytes: &[u8], contexts: &[u8]| {
        Section::from_bytes(plane::encode(bytes, Known::of_contexts(contexts)).map_err(CodecError::codec)?)
    };
    let Some((gaps, few)) = gaps::of(symbols) else {
        return payload.with(SYMBOLS, coded(symbols, contexts)?);
    };
    let contexts = gaps::kept(contexts, symbols);
    payload
        .with(GAP_BYTES, Section::from_values(Dtype::U64, [1], vec![gaps.len() as u64])?)?
        .with(GAPS, coded(&gaps, &[])?)?
        .with(SYMBOLS, coded(&few, &contexts)?)
}

impl Lossless for ExactDelta {
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        spec.check_output_bytes(out.len())?;
        cx.cancel.check()?;
        if !payload.has("base") {
            return ALONE.decode_bytes(spec, payload.scoped(SCOPE), &cx.for_child(), out);
        }
        let base = payload.base(spec, cx)?;
        out.copy_from_slice(base.view.bytes());
        if payload.has(SYMBOLS) {
            let Some(format) = FloatFormat::of(spec.dtype()) else {
                return Err(payload.corrupt(SYMBOLS, format!("there are none for {}", spec.dtype())));
            };
            add_difference(format, &payload, cx, out)?;
        }
        payload.verify_seal(out)
    }
}

/// Adds the difference to the base's floats in `out`.
fn add_difference(format: FloatFormat, payload: &PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [u8]) -> Result<()> {
    let damaged = |e: entropy::Error| payload.corrupt(SYMBOLS, e.to_string());
    let none = |reason| payload.corrupt(SYMBOLS, reason);
    let mut sum = Sum::new(format, payload.byte_section(RAW)?);
    if payload.has(GAPS) {
        let places = read_places(payload, out.len() / format.width)?;
        let ranges = || places.iter().map(|place| place * format.width..(place + 1) * format.width);
        let mut few: Vec<u8> = ranges().flat_map(|range| &out[range]).copied().collect();
        let symbols = read_plane(payload, SYMBOLS, &format.contexts(&few), places.len())?;
        sum.add(&symbols, &mut few).map_err(none)?;
        for (range, float) in ranges().zip(few.chunks(format.width)) {
            out[range].copy_from_slice(float);
        }
    } else {
        let mut reader = Reader::new(payload.byte_section(SYMBOLS)?, out.len() / format.width).map_err(damaged)?;
        let mut symbols = vec![0; BLOCK];
        for out in out.chunks_mut(BLOCK * format.width) {
            cx.cancel.check()?;
            let symbols = &mut symbols[..out.len() / format.width];
            reader.read(Known::of_contexts(&format.contexts(out)), symbols).map_err(damaged)?;
            sum.add(symbols, out).map_err(none)?;
        }
        reader.finish().map_err(damaged)?;
    }
    sum.finish().map_err(|reason| payload.corrupt(RAW, reason))
}

/// Elements decoded at a time; a multiple of 32.
const BLOCK: usize = 1 << 13;

/// The positions of the elements that differ.
fn read_places(payload: &PayloadView<'_>, elements: usize) -> Result<Vec<usize>> {
    let bytes = payload.values::<u64>(GAP_BYTES, Dtype::U64, &[1])?[0];
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= gaps::most_bytes(elements));
    let bytes = bytes.ok_or_else(|| payload.corrupt(GAP_BYTES, "there are more gaps than in a tensor of few"))?;
    let places = gaps::places(&read_plane(payload, GAPS, &[], bytes)?, elements);
    places.ok_or_else(|| payload.corrupt(GAPS, "they reach beyond the tensor"))
}

fn read_plane(payload: &PayloadView<'_>, name: &str, contexts: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; len];
    let read = plane::decode(payload.byte_section(name)?, Known::of_contexts(contexts), &mut out);
    read.map_err(|e| payload.corrupt(name, e.to_string()))?;
    Ok(out)
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", ExactDelta::default())]
}

register_codec!("delta.exact", "every bit, as the difference from a base", presets);
