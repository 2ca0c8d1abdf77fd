//! Weights bit for bit, in as few bytes as their distribution allows, `lossless`.
//!
//! Each element is cut into bytes, and the bytes of equal significance form a plane. The exponents
//! of floats form a plane of their own; for trained weights they take about 2.6 bits of 8. Rows and
//! columns of a matrix have different scales, which one histogram of the whole tensor mixes up.
//! With the mean exponents of row and column as a context, the exponents take as many bits as those
//! of a tensor with a single scale. The first bits of the mantissa are not quite uniform, given the
//! exponent.
//!
//! Constant planes (of F32 numbers that were BF16 once) take no bytes, and zeros only the bits that
//! locate them. Dead mantissa bits and narrow dtypes in wide ones have no modes of their own: given
//! the plane above, their planes cost nothing already. Three other forms cover what planes do not:
//! a palette for tensors of few values, a Zstandard frame (only of tensors with repetitions, or of
//! few bytes), and the stored bytes. The smallest form is the payload.
//!
//! # Source
//! Separate exponents as in `ZipNN`, arXiv 2411.05239, section 3; the contexts are ours. The coder
//! comes from the crate `entropy`.
//!
//! # Sections
//! One of
//! - `data`: the tensor itself, of its own dtype and shape;
//! - `frame` U8: one Zstandard frame of the stored bytes;
//! - `palette` U8 and `indices` U8, for elements of 2, 4 or 8 bytes: the 2 to 4096 values that
//!   occur, ascending as unsigned numbers, and a coded plane (`entropy::plane`) of each element's
//!   index in the palette. With more than 256 values, `indices` holds the upper bytes of the
//!   indices, and `low_indices` U8 is the plane of the lower bytes, with the upper bytes as its
//!   plane before;
//! - `plane0`, `plane1`, … U8: one for each byte of an element, in the layout of
//!   `entropy::plane`.
//!
//! The bits of F32 and BF16 are first rotated left by one, so that the sign is last. Then, and for
//! all other dtypes, the planes are the bytes from the highest to the lowest. C64 counts as a
//! 64-bit integer of its two parts; sub-byte dtypes have one plane, of their bytes. The plane
//! before (`entropy::plane::Known`) of each plane but the first is the plane above it. If plane 0
//! of F32 or BF16 has contexts, there are
//! - `rows` U8 and `columns` U8: coded planes of `R` and `C` bytes, for the matrix view. The
//!   context of an element is half their sum, rounded down, and at most 63. The plane before of
//!   plane 1 is then four times plane 0 minus the contexts, modulo 256.
//!
//! And always
//! - `padding` U8, zeros, if the rest takes less than a 2²⁰th of the stored bytes;
//! - `seal` U32 `[1]`: CRC-32C of the stored bytes followed by those of all other sections in the
//!   order of their names. So it also detects changed bits that change no weight, for example in
//!   contexts that share a table.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"lossless","version":1,"level":"fast"}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_lossless as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `level` is `fast` or `max` and affects the encoder only: `fast` models a plane only if that
//! saves a sixteenth of it, `max` if it saves a 512th.
//!
//! # Bound
//! Exact.
//!
//! # Cost
//! From a 2²⁰th of the stored size to the stored size + 4 bytes.
//!
//! # Limits
//! None: every dtype and shape. Decoding to f32 exists for F32, F16 and BF16; the others decode to
//! their bytes. The Zstandard frame of the same tensor may differ between versions of the library.

mod estimate;
mod frame;
mod palette;
mod scales;
mod split;

use std::borrow::Cow;

use bytes::Bytes;
use codec_api::util::decode_exact;
use codec_api::{
    Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Lossless, Payload, PayloadView, Preset,
    Result, Section, TensorSpec, TensorView, register_codec, typetag,
};
use entropy::plane::{self, Known, Reader};
pub use estimate::likely_least;
use serde::{Deserialize, Serialize};
use split::Split;

/// Effort of the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Uses models that save much.
    #[default]
    Fast,
    /// Uses models that save even a little.
    Max,
}

impl Level {
    /// The fraction of the `k`-th plane that a model must save; 1 if a sample of the plane shows
    /// that no model will.
    fn gain(self, k: usize, plane: &[u8]) -> f64 {
        let (gain, always) = match self {
            Self::Fast => (1.0 / 16.0, 1),
            // The second plane of a float holds the first bits of the mantissa. A sample cannot
            // show how much they depend on the exponents.
            Self::Max => (1.0 / 512.0, 2),
        };
        if k >= always && !plane::likely_saves(plane, gain) { 1.0 } else { gain }
    }
}

/// Configuration of `lossless`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Exact {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Effort of the encoder.
    pub level: Level,
}

impl Exact {
    /// Creates the codec with this level.
    pub const fn new(level: Level) -> Self {
        Self { version: FormatVersion, level }
    }
}

#[typetag::serde(name = "lossless")]
impl Codec for Exact {
    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.byte_len();
        let passes = if self.level == Level::Fast { 4.0 } else { 8.0 };
        CostEstimate::between((n / Payload::MOST_EXPANSION) as u64, n as u64 + Payload::SEAL_BYTES)
            .ops(passes * n as f64, 4.0 * n as f64)
            // Planes and their contexts, coded planes, and a Zstandard frame.
            .scratch(5 * n as u64 + (8 << 20))
            .rel_rmse(0.0)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let planes = self.encode_planes(&tensor, cx)?;
        cx.cancel.check()?;
        let (spec, bytes) = (tensor.spec(), tensor.bytes());
        let mut best = if planes.bytes() < bytes.len() as u64 {
            planes
        } else {
            Payload::new().with("data", Section::new(spec.dtype(), spec.shape(), bytes.to_vec())?)?
        };
        let width = Split::of(spec.dtype()).width();
        if let Some(few) = palette::encode(bytes, width, best.bytes())?.filter(|few| few.bytes() < best.bytes()) {
            best = few;
        }
        if let Some(frame) = frame::smaller(bytes, width, best.bytes())? {
            best = Payload::new().with("frame", Section::from_bytes(frame)?)?;
        }
        cx.progress.tick(spec.elements() as u64);
        best.sealed(bytes)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        decode_exact(self, spec, payload, cx, out)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }
}

impl Exact {
    fn encode_planes(&self, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let spec = tensor.spec();
        let split = Split::of(spec.dtype());
        // Planes that stay raw are shared with the payload.
        let raw: Vec<Bytes> = split.planes(tensor.bytes()).into_iter().map(Bytes::from).collect();
        let planes: Vec<&[u8]> = raw.iter().map(|plane| plane.get(1..).unwrap_or_default()).collect();
        let mut payload = Payload::new();
        let scales = scales::of_exponents(spec, planes[0]);
        let (mut contexts, mut coded_scales) = (Vec::new(), Vec::new());
        if let Some(scales) = &scales {
            contexts = vec![0; spec.elements()];
            scales.contexts(0, &mut contexts);
            coded_scales = scales::coded(scales)?.to_vec();
        }
        let side_bytes = coded_scales.iter().map(|(_, bytes)| bytes.len()).sum();
        for (k, (bytes, raw)) in planes.iter().zip(&raw).enumerate() {
            cx.cancel.check()?;
            let gain = self.level.gain(k, bytes);
            let before = if gain < 1.0 { before(k, &planes, &contexts) } else { Cow::default() };
            let known =
                if k == 0 { Known { contexts: &contexts, side_bytes, before: &[] } } else { Known::after(&before) };
            let coded = plane::encode_smaller(bytes, known, gain).map_err(CodecError::codec)?;
            let coded = coded.map_or_else(|| raw.clone(), Bytes::from);
            if plane::needs_contexts(&coded) {
                for (name, bytes) in &coded_scales {
                    payload = payload.with(name, Section::from_bytes(bytes.clone())?)?;
                }
            } else if k == 0 {
                contexts.clear();
            }
            payload = payload.with(&plane_name(k), Section::new(Dtype::U8, [coded.len()], coded)?)?;
        }
        Ok(payload)
    }

    fn decode_planes(spec: &TensorSpec, payload: &PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [u8]) -> Result<()> {
        let split = Split::of(spec.dtype());
        let (width, elements) = (split.width(), out.len() / split.width());
        let scales = scales::read(spec, payload)?;
        let damaged = |k| move |e: entropy::Error| payload.corrupt(&plane_name(k), e.to_string());
        let reader = |k| Reader::new(payload.byte_section(&plane_name(k))?, elements).map_err(damaged(k));
        let mut readers = (0..width).map(reader).collect::<Result<Vec<_>>>()?;
        let (mut contexts, mut planes) = (Vec::new(), vec![Vec::new(); width]);
        for (first, out) in (0..).step_by(BLOCK).zip(out.chunks_mut(BLOCK * width)) {
            cx.cancel.check()?;
            if let Some(scales) = &scales {
                contexts.resize(out.len() / width, 0);
                scales.contexts(first, &mut contexts);
            }
            for (k, reader) in readers.iter_mut().enumerate() {
                let (above, plane) = planes.split_at_mut(k);
                plane[0].resize(out.len() / width, 0);
                let before = if reader.needs_before() { before(k, above, &contexts) } else { Cow::default() };
                let known = Known { contexts: &contexts, before: &before, ..Known::default() };
                reader.read(known, &mut plane[0]).map_err(damaged(k))?;
            }
            split.join(&planes, out);
        }
        readers.into_iter().enumerate().try_for_each(|(k, reader)| reader.finish().map_err(damaged(k)))
    }
}

/// Elements decoded at a time; a multiple of 32.
const BLOCK: usize = 1 << 13;

impl Lossless for Exact {
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        spec.check_output_bytes(out.len())?;
        cx.cancel.check()?;
        if payload.has("data") {
            out.copy_from_slice(payload.bytes("data", spec.dtype(), spec.shape())?);
        } else if payload.has("frame") {
            let frame = payload.byte_section("frame")?;
            crate::zstd_frame::unpack(&payload, frame, out)?;
        } else if palette::is(&payload) {
            palette::decode(&payload, Split::of(spec.dtype()).width(), cx, out)?;
        } else {
            Self::decode_planes(spec, &payload, cx, out)?;
        }
        payload.verify_seal(out)
    }
}

/// The plane before of the `k`-th plane: the one above it. If scales are known, the plane after the
/// exponents uses the distance of the exponents from the scale of row and column, since that
/// determines where in the distribution a weight is.
fn before<'a>(k: usize, planes: &'a [impl AsRef<[u8]>], contexts: &[u8]) -> Cow<'a, [u8]> {
    match (k, planes) {
        (1, [exponents, ..]) if !contexts.is_empty() => scales::relative(exponents.as_ref(), contexts).into(),
        _ => k.checked_sub(1).and_then(|k| planes.get(k)).map_or_else(Cow::default, |plane| plane.as_ref().into()),
    }
}

fn plane_name(k: usize) -> String {
    format!("plane{k}")
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("fast", Exact::default()), Preset::new("max", Exact::new(Level::Max))]
}

register_codec!("lossless", "every bit, in planes of bytes with the models that suit them", presets);
