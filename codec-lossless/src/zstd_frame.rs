//! One Zstandard frame of the stored bytes, `lossless.zstd`: a widely available compressor for
//! comparison.
//!
//! # Source
//! Zstandard: RFC 8878; the reference implementation, at its levels 1 to 19.
//!
//! # Sections
//! - `frame` U8 `[length]`: one frame without its own checksum;
//! - `crc32c` U32 `[1]`: CRC-32C of the stored bytes.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"lossless.zstd","version":1,"level":3}"#;
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
//! From 1/32768 of the stored size + 4 bytes to Zstandard's own worst case, the stored size + 1/256
//! of it + a few bytes.
//!
//! # Limits
//! None: every dtype and shape. Decoding to f32 exists for F32, F16 and BF16; the others decode to
//! their bytes. The frame of the same tensor may differ between versions of the library; every
//! version decodes the frames of the others.

use codec_api::util::decode_exact;
use codec_api::{
    Bounded, Codec, CodecError, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Lossless, Payload, PayloadView,
    Preset, Result, Section, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

/// Configuration of `lossless.zstd`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Zstd {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Compression level: higher is smaller and slower.
    pub level: Bounded<1, 19>,
}

impl Default for Zstd {
    fn default() -> Self {
        Self::new(Bounded::at::<3>())
    }
}

impl Zstd {
    /// Creates the codec with this level.
    pub fn new(level: Bounded<1, 19>) -> Self {
        Self { version: FormatVersion, level }
    }

    /// Approximate size of the library's window and tables for `bytes` of input at this level.
    fn workspace(&self, bytes: u64) -> u64 {
        let most = match self.level.get() {
            ..=8 => 8 << 20,
            9..=16 => 32 << 20,
            _ => 96 << 20,
        };
        // The library makes both smaller for less input.
        most.min((16 * bytes).saturating_add(1 << 20))
    }
}

/// Maximum expansion of a frame, relative to its size.
const MAX_RATIO: u64 = (128 << 10) / 4;

#[typetag::serde(name = "lossless.zstd")]
impl Codec for Zstd {
    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.byte_len() as u64;
        // ZSTD_COMPRESSBOUND, without its case distinction for small inputs.
        let most = n + n / 256 + 64 + 18;
        let effort = f64::from(self.level.get()) * 20.0;
        // A block of at most 128 KiB takes at least 4 bytes, 3 of them its header.
        let least = n / MAX_RATIO + Payload::CHECKSUM_BYTES;
        CostEstimate::between(least, most + Payload::CHECKSUM_BYTES)
            .ops(effort * n as f64, 10.0 * n as f64)
            .scratch(n + self.workspace(n))
            .rel_rmse(0.0)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let frame = zstd::bulk::compress(tensor.bytes(), self.level.get() as i32).map_err(CodecError::codec)?;
        cx.progress.tick(tensor.spec().elements() as u64);
        Payload::new().with("frame", Section::from_bytes(frame)?)?.with_checksum(tensor.bytes())
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        decode_exact(self, spec, payload, cx, out)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }
}

impl Lossless for Zstd {
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        spec.check_output_bytes(out.len())?;
        cx.cancel.check()?;
        unpack(&payload, payload.byte_section("frame")?, out)?;
        payload.verify_checksum(out)
    }
}

/// Unpacks the section `frame`, which must fill `out` exactly.
pub(crate) fn unpack(payload: &PayloadView<'_>, frame: &[u8], out: &mut [u8]) -> Result<()> {
    // Decompresses straight into `out`, so that the frame cannot choose the size of an allocated
    // window.
    match zstd::bulk::decompress_to_buffer(frame, out) {
        Ok(written) if written == out.len() => Ok(()),
        Ok(written) => Err(payload.corrupt("frame", format!("it holds {written} bytes, the tensor {}", out.len()))),
        Err(e) => Err(payload.corrupt("frame", e.to_string())),
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("level3", Zstd::default()), Preset::new("level19", Zstd::new(Bounded::at::<19>()))]
}

register_codec!("lossless.zstd", "one Zstandard frame", presets, .probes(|| vec!["lossless.zstd:level=1".to_owned()]));
