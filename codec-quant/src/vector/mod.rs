//! Vector quantisation, `quant.vector`: a few weights together become the index of a vector in a
//! codebook that is trained for the tensor.
//!
//! Vectors do better than scalars because a codebook places its points where the density is high,
//! and its cells can have a less wasteful shape. The codebook costs `2^bits · length` F16 numbers,
//! so the size of the tensor limits the length.
//!
//! # Source
//! VPTQ: Liu et al., arXiv 2409.17066: codebooks by k-means weighted with the Hessian's diagonal,
//! and residual codebooks; without its second-order feedback between columns and its codebook for
//! outliers. k-means++: Arthur and Vassilvitskii, SODA 2007; Lloyd, IEEE Transactions on
//! Information Theory 28 (1982). The joint search of both indices of a vector, and the training of
//! both codebooks on its result, follow additive quantisation: Babenko and Lempitsky, CVPR 2014.
//!
//! # Sections
//! The flat tensor of `n` weights is cut into `m = ⌈n/length⌉` vectors, across rows; the last one
//! may be shorter. With `K = min(2^bits, m)` and `K' = min(2^residual_bits, m)`:
//! - `codebook` F16 `[K, length]`;
//! - `indices` U8 `[⌈m·bits/8⌉]`: one for each vector, a little-endian bit stream, lowest bit
//!   first;
//! - `residual_codebook` F16 `[K', length]` and `residual_indices` U8 `[⌈m·residual_bits/8⌉]`, if
//!   `residual_bits` is not 0;
//! - `exponent` I8 `[1]`.
//!
//! A vector is its centroid times `2^exponent`, rounded to f32; with a second codebook it is the
//! f32 sum of both, clamped to finite numbers. An index of `K` or more means zeros; no encoder
//! writes one. Surplus coordinates of the last vector are dropped.
//!
//! ## Training
//! The exponent puts the largest weight between `2^14` and `2^15`, so that F16 is precise over
//! eight orders of magnitude below it; the exponent is at least −126.
//!
//! Training begins with a sample of 64 vectors for each centroid (at least 2¹⁴ and at most 2¹⁸
//! vectors; the tensor is cut into as many equal parts, and one vector is drawn from each). On the
//! sample it runs k-means++ and up to 50 of Lloyd's rounds, until a round lowers the error by less
//! than a thousandth. Up to ten rounds over all vectors follow, and a last round that ends with the
//! means. In all rounds but the last a centroid moves 1.8 times the distance to its mean, which
//! saves rounds. A centroid without vectors moves to the vector that is farthest from its own
//! centroid. Finally centroids are rounded to F16 and all vectors are assigned again.
//!
//! A second codebook begins with k-means++ on the residuals of the first one. From then on a round
//! tries all `2^(bits + residual_bits)` pairs of centroids for each vector, because the nearest
//! centroid of the first codebook need not be part of the nearest pair.
//!
//! With calibration each squared error is weighted by the mean square of the weight's input,
//! relative to the largest mean square and at least 10⁻⁶ of it.
//!
//! ## How good it is
//! On Gaussian weights, with all sections counted: bits per weight, NMSE and bits above Shannon's
//! bound (gap). Seconds and million weights per second are those of encoding the large tensor on
//! one core of an AMD EPYC with AVX-512 (`netweight bench --suite gaussian:2048x2048`,
//! `--suite gaussian:256x256`, `--codecs quant.vector:preset=2bit,…`):
//!
//! | | 2048 × 2048 | NMSE | gap | s | Mw/s | 256 × 256 | NMSE | gap |
//! |---|---|---|---|---|---|---|---|---|
//! | `preset=2bit`: `length=4:bits=8` | 2.004 | .0970 | .321 | 0.27 | 15.7 | 2.250 | .0890 | .505 |
//! | `preset=2bit-pair`: `length=6:bits=6:residual_bits=6` | 2.003 | .0975 | .323 | 2.2 | 1.9 | 2.188 | .0876 | .431 |
//! | `length=3:bits=6` | 2.001 | .1020 | .354 | 0.13 | 33 | 2.047 | .0997 | .384 |
//! | `length=7:bits=7:residual_bits=7` | 2.007 | .0938 | .300 | 7.3 | 0.6 | 2.438 | .0782 | .599 |
//! | `preset=2.25bit`: `length=4:bits=9` | 2.258 | .0697 | .336 | 0.56 | 7.5 | 2.750 | .0600 | .721 |
//! | `preset=3bit`: `length=3:bits=9` | 3.006 | .0272 | .407 | 0.65 | 6.5 | 3.375 | .0237 | .677 |
//! | `length=2:bits=6` | 3.000 | .0301 | .473 | 0.19 | 23 | 3.031 | .0298 | .498 |
//! | `preset=4bit`: `length=2:bits=8` | 4.002 | .00785 | .505 | 0.51 | 8.2 | 4.125 | .00742 | .588 |
//! | `length=3:bits=12` | 4.047 | .00677 | .444 | 6.2 | 0.7 | 7.000 | .00359 | 2.939 |
//!
//! Small codebooks suit small tensors: below about 10⁵ weights shorter vectors, or pairs at 2 bits,
//! give a smaller error for the same bytes. A residual codebook does not pay at 3 bits and more
//! (`length=4:bits=6:residual_bits=6`, 3.002 bits: NMSE .0294).
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.vector","version":1,"length":4,"bits":8,"residual_bits":0}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `length` 2 to 8; `bits` 2 to 16; `residual_bits` 0 (no second codebook) to 8; at most 16 for the
//! sum of both.
//!
//! # Bound
//! None: a weight far from the others may be far from its centroid too.
//!
//! # Cost
//! `⌈m·bits/8⌉ + 2·K·length + 1` bytes, and `⌈m·residual_bits/8⌉ + 2·K'·length` more with a second
//! codebook. An encode compares every vector with all centroids, or pairs of them, a dozen times,
//! which takes twice as long with calibration. A sum of 16 bits takes minutes for millions of
//! weights.
//!
//! # Limits
//! F32, F16 and BF16. It cannot be cut into chunks, because the codebook is paid for once. A tensor
//! of few weights grows: its codebook is then as large as the tensor in F16. Weights 2²⁸ times
//! smaller than the largest begin to lose digits, weights 2⁴⁰ times smaller become zeros. The
//! estimate of scratch memory assumes calibration, which doubles it.

mod decode;
mod encode;
mod points;
mod search;
mod train;

use codec_api::{
    Bounded, Chunking, Codec, CodecError, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Need, Needs, Payload,
    PayloadView, Preset, Result, RowReader, Rows, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

/// Configuration of `quant.vector`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Keys")]
#[non_exhaustive]
pub struct VectorQuant {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Weights of a vector.
    pub length: Bounded<2, 8>,
    /// Bits of an index into the codebook.
    pub bits: Bounded<2, 16>,
    /// Bits of an index into the residual codebook; 0 if there is none.
    pub residual_bits: Bounded<0, 8>,
}

/// The keys of a header, before their sum is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    version: FormatVersion<1>,
    length: Bounded<2, 8>,
    bits: Bounded<2, 16>,
    residual_bits: Bounded<0, 8>,
}

impl Default for Keys {
    fn default() -> Self {
        let VectorQuant { version, length, bits, residual_bits } = VectorQuant::default();
        Self { version, length, bits, residual_bits }
    }
}

impl TryFrom<Keys> for VectorQuant {
    type Error = String;

    fn try_from(Keys { version, length, bits, residual_bits }: Keys) -> Result<Self, String> {
        let codec = Self { version, length, bits, residual_bits };
        codec.check_bits()?;
        Ok(codec)
    }
}

impl Default for VectorQuant {
    fn default() -> Self {
        Self::new(Bounded::at::<4>(), Bounded::at::<8>())
    }
}

impl VectorQuant {
    /// One codebook of `2^bits` vectors of `length` weights.
    pub fn new(length: Bounded<2, 8>, bits: Bounded<2, 16>) -> Self {
        Self { version: FormatVersion, length, bits, residual_bits: Bounded::at::<0>() }
    }

    /// Adds a second codebook of `2^bits` vectors; none if `bits` is 0.
    #[must_use]
    pub fn with_residual(mut self, bits: Bounded<0, 8>) -> Self {
        self.residual_bits = bits;
        self
    }

    /// Refuses indices of more bits than an encoder can try. Settings that were not read from a
    /// header have not been checked.
    fn check_bits(&self) -> Result<(), String> {
        let (bits, residual) = (self.bits.get(), self.residual_bits.get());
        if bits + residual > MAX_BITS {
            let sum = bits + residual;
            return Err(format!("`bits` {bits} and `residual_bits` {residual} are {sum} together: {MAX_BITS} at most"));
        }
        Ok(())
    }

    fn layout(&self, spec: &TensorSpec) -> Layout {
        let length = self.length.get() as usize;
        let vectors = spec.elements().div_ceil(length);
        let bits = [self.bits.get(), self.residual_bits.get()].into_iter().filter(|bits| *bits > 0);
        let stages = bits.map(|bits| Stage { bits: bits as usize, size: vectors.min(1 << bits) }).collect();
        Layout { length, vectors, stages }
    }
}

/// Names of the sections of each codebook and its indices.
const NAMES: [[&str; 2]; 2] = [["codebook", "indices"], ["residual_codebook", "residual_indices"]];

/// Largest sum of the bits of both indices: an encoder tries all pairs.
const MAX_BITS: u32 = 16;

/// Sizes for one tensor.
struct Layout {
    /// Weights of a vector.
    length: usize,
    vectors: usize,
    stages: Vec<Stage>,
}

/// Sizes of one codebook.
struct Stage {
    /// Bits of an index.
    bits: usize,
    /// Number of centroids, at most the number of vectors.
    size: usize,
}

impl Layout {
    fn index_bytes(&self, stage: &Stage) -> usize {
        (self.vectors * stage.bits).div_ceil(8)
    }

    /// Bytes of all sections.
    fn bytes(&self) -> usize {
        let of_stage = |stage: &Stage| 2 * stage.size * self.length + self.index_bytes(stage);
        1 + self.stages.iter().map(of_stage).sum::<usize>()
    }

    /// Number of centroids, or of pairs, that a vector is compared with.
    fn choices(&self) -> usize {
        self.stages.iter().map(|stage| stage.size).product()
    }
}

#[typetag::serde(name = "quant.vector")]
impl Codec for VectorQuant {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        self.check_bits().map_err(CodecError::Unsupported)?;
        spec.require_float()
    }

    /// The codebook is paid for once.
    fn chunking(&self, _: &TensorSpec) -> Chunking {
        Chunking::Whole
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let layout = self.layout(spec);
        let n = spec.elements() as f64;
        let encode = (train::PASSES * layout.choices()) as f64 * (2.0 + 3.0 / layout.length as f64);
        CostEstimate::fixed(layout.bytes() as u64)
            .ops(encode * n, (2.0 + 6.0 / layout.length as f64) * layout.stages.len() as f64 * n)
            .scratch(crate::widened_bytes(spec) + encode::scratch_bytes(&layout))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        encode::encode(self, &tensor, cx)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        crate::decode_rows(self, spec, payload, cx, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }
}

impl Rows for VectorQuant {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(decode::Reader::open(self, spec, &payload)?))
    }
}

fn presets() -> Vec<Preset> {
    let single = VectorQuant::new;
    vec![
        Preset::new("2bit", single(Bounded::at::<4>(), Bounded::at::<8>())),
        Preset::new("2bit-pair", single(Bounded::at::<6>(), Bounded::at::<6>()).with_residual(Bounded::at::<6>())),
        Preset::new("2.25bit", single(Bounded::at::<4>(), Bounded::at::<9>())),
        Preset::new("3bit", single(Bounded::at::<3>(), Bounded::at::<9>())),
        Preset::new("4bit", single(Bounded::at::<2>(), Bounded::at::<8>())),
    ]
}

/// Lengths, widths of indices and of residual indices, as (length, bits, residual bits).
fn probes() -> Vec<String> {
    let keys = [(2, 2, 1), (5, 3, 0), (5, 4, 8), (7, 7, 2), (8, 5, 0), (3, 16, 0)];
    let spec = |(length, bits, residual)| format!("quant.vector:length={length}:bits={bits}:residual_bits={residual}");
    keys.map(spec).into()
}

register_codec!("quant.vector", "vectors of weights from a trained codebook", presets, .probes(probes));
