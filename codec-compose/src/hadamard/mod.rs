//! Rotated rows, `hadamard(inner)`: random signs and a Hadamard matrix spread every weight over its
//! row. A codec of a fixed rate then always sees nearly Gaussian weights: no outlier stretches the
//! scale of its neighbours.
//!
//! A row of `C` columns is rotated in windows of `P` columns, the largest power of two that is at
//! most `block` and at most `C`. There are `⌈C/P⌉` windows, and window `k` begins at column
//! `min(k·P, C − P)`. So if `P` does not divide `C`, the last window is moved back over the
//! previous one, and columns in both are rotated twice. The alternative, to cut the rest of a row
//! into smaller and smaller powers of two, would spread some weights over fewer others; here every
//! weight spreads over equally many. The product of two rotations is a rotation too.
//!
//! The windows are rotated in ascending order, and each becomes `H·(d ⊙ x)`: every value is
//! multiplied by its `d`, ±1/√P rounded to f32. Then, for the strides 1, 2, 4, … P/2 in turn, each
//! pair `(a, b)` of values a stride apart becomes `(a + b, a − b)`. All computations are in f32.
//!
//! The signs are the same for all rows: bits of xoshiro256++, seeded by `seed` through `SplitMix64`
//! as `rand_xoshiro` does, the lowest bit of a 64-bit word first; a set bit is a minus. Bit
//! `k·P + i` belongs to the `i`th column of window `k`. The signs depend on a key of the header,
//! not on the seed of the encode, so that the payload does not store them.
//!
//! A decoder reverses the order of windows where they overlap: the last window first, then the
//! others; in each, the strides 1, 2, 4, … again, and then `d`.
//!
//! # Source
//! Ailon and Chazelle, *Approximate nearest neighbors and the fast Johnson–Lindenstrauss
//! transform*, STOC 2006; for weights, the incoherence processing of `QuIP#` (arXiv 2402.04396,
//! section 3) and `QuaRot` (arXiv 2404.00456), here on the side of the inputs only. The windows are
//! ours.
//!
//! # Sections
//! - `inner/…`: the payload of `inner` for the F32 tensor of the same shape with rotated rows.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"hadamard","version":1,"#,
//!     r#""inner":{"codec":"quant.mxfp4","version":1},"#,
//!     r#""block":1024,"seed":0}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_compose as _;
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `block` is a power of two from 16 to 65536; `seed` is below 2³². The seed of an encode does not
//! affect the signs.
//!
//! # Bound
//! That of `inner` for a row as a whole: a rotation preserves the sum of the squared errors of a
//! row, but for rounding, and spreads it over all columns of a window.
//!
//! # Cost
//! The bytes of `inner` for an F32 tensor; the signs are not stored. A rotation takes log₂ P + 1
//! operations a weight, and twice that for columns in two windows.
//!
//! If `inner` reads ranges of rows, so does this codec: it rotates each row back on its own. If
//! `inner` has a linear operator, so has this codec: it rotates the inputs instead of the weights.
//! In a transposed product it rotates the sums back.
//!
//! # Limits
//! F32, F16 and BF16, if `inner` accepts an F32 tensor of the shape. The codec is lossy even with
//! an exact `inner`: sums are rounded. `inner` gets neither base nor calibration. The mean squares
//! of the inputs are the diagonal of a matrix, and a rotated diagonal is no diagonal; an encode
//! that drops calibration logs a warning. Chunks are cut as `inner` allows, unless they share
//! statistics of the whole tensor. Magnitudes of more than 3.4e38/√P may add up to more than f32
//! can hold; such tensors are unsuitable. The tolerance of the linear operator is √P times that of
//! `inner`, because in a transposed product the errors of all columns of a window may add up.
//!
//! # How good it is
//! Relative Frobenius errors in per cent, alone → rotated
//! (`cargo run --release -p netweight-codec-compose --example rotations`). The inputs are suites
//! and models of the harness, and matrices of 1024 × 1024: Student's t with three degrees of
//! freedom; N(0,1) with 11 columns, or the first 128, times ten. The last column of the table
//! counts only the 896 columns beside those 128.
//!
//! | codec | `gaussian` | `laplace` | `scale-mixed` | `stories260k` | `gpt2_mini_layers` | Student's t | loud columns | 128 loud columns | beside 128 loud columns |
//! |---|---|---|---|---|---|---|---|---|---|
//! | `quant.int:bits=4:group=row` | 14.2 → 14.3 | 21.8 → 14.3 | 24.3 → 14.3 | 10.9 → 11.2 | 13.5 → 13.3 | 39.6 → 13.9 | 51.7 → 13.5 | 26.2 → 13.1 | 92.4 → 48.1 |
//! | `quant.int:bits=4:group=128:symmetric=false` | 10.0 → 10.1 | 13.0 → 10.0 | 13.0 → 10.0 | 9.3 → 9.2 | 10.0 → 10.0 | 16.5 → 9.9 | 18.9 → 9.8 | 10.1 → 10.1 | 10.0 → 36.9 |
//! | `quant.nf4` | 9.2 → 9.2 | 10.4 → 9.2 | 10.4 → 9.2 | 9.4 → 9.2 | 9.2 → 9.2 | 12.3 → 9.2 | 14.9 → 9.2 | 9.2 → 9.2 | 9.2 → 33.5 |
//! | `quant.mxfp4` | 11.2 → 11.2 | 12.2 → 11.2 | 12.2 → 11.2 | 11.2 → 11.7 | 11.2 → 11.2 | 13.7 → 11.2 | 15.3 → 11.1 | 11.1 → 11.2 | 11.2 → 40.5 |
//! | `quant.q4_0` | 8.1 → 8.1 | 10.2 → 8.1 | 10.2 → 8.1 | 8.0 → 8.0 | 8.0 → 8.1 | 12.4 → 8.0 | 14.6 → 7.9 | 8.1 → 8.1 | 8.1 → 29.3 |
//! | `quant.ternary:scope=row` | 43.6 → 43.6 | 51.3 → 43.5 | 51.6 → 43.6 | 43.8 → 42.2 | 43.9 → 43.5 | 63.2 → 43.1 | 71.2 → 42.9 | 49.1 → 43.4 | 100.0 → 119.5 |
//! | `sparse.prune(quant.int:bits=8):density=0.5` | 26.7 → 26.7 | 18.3 → 26.7 | 16.9 → 21.0 | 23.9 → 24.3 | 25.0 → 25.3 | 17.5 → 26.5 | 18.9 → 26.7 | 8.4 → 26.6 | 32.5 → 75.7 |
//!
//! - It helps where few weights stretch the scale of many: with heavy tails and loud columns, and
//!   more so the more weights share a scale. The error becomes that of Gaussian weights in all
//!   these cases.
//! - It changes nothing for Gaussian weights, and less than 5 % for the layers of these two models.
//! - It hurts quiet columns beside loud ones. Scales by group leave the error where the weights are
//!   large; a rotation spreads it over all columns. The total error does not show this.
//! - It hurts codecs that benefit from small weights (`sparse.prune`), zeros, or frequencies:
//!   `trellis:bits=3` alone and rotated has an NMSE of .0152 and .0175 on `laplace`, .0090 and
//!   .0125 on `scale-mixed`, .0175 both times on `gaussian`, .0166 and .0167 on `gpt2_mini_layers`:
//!   a tenth of a bit and more, or nothing
//!   (`netweight bench --suite laplace --codecs "trellis:bits=3,hadamard(trellis:bits=3)"`).
//!
//! `block` is a compromise: the errors of `quant.int:bits=4` with `block=128`
//! (`… --example rotations -- block=128 quant.int:bits=4:group=row …`) are 14.6 instead of 13.9 for
//! Student's t and 26.2 instead of 13.1 for 128 loud columns if a row shares a scale. With a scale
//! for each group of 128, they are 9.0 instead of 9.8 for the eleven loud columns, and 10.0 instead
//! of 36.9 beside the 128.
//!
//! Of 64 MiB of f32, `quant.int:bits=4:group=128:symmetric=false` decodes in 2.8 ms alone and in
//! 14.1 ms rotated; a memcpy takes 3.7 ms (`cargo bench -p netweight-codec-compose`, 2026-11-21,
//! one core of a busy AMD EPYC with AVX-512).

mod block;
mod linear;
mod rotation;
mod rows;

use codec_api::util::first_non_finite;
use codec_api::{
    Bounded, Chunking, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, Need,
    Payload, PayloadView, Preset, Result, Rows, TensorSpec, TensorView, register_codec, typetag,
};
use rotation::Rotation;
use serde::{Deserialize, Serialize};

pub use block::Block;

const INNER: &str = "inner";

/// Configuration of `hadamard`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Hadamard {
    /// Format version.
    #[serde(default)]
    pub version: FormatVersion<1>,
    /// Encodes the rotated rows.
    pub inner: Box<dyn Codec>,
    /// Maximum number of columns rotated together.
    #[serde(default)]
    pub block: Block,
    /// Seed of the signs.
    #[serde(default = "Bounded::at::<0>")]
    pub seed: Bounded<0, { u32::MAX }>,
}

impl Hadamard {
    /// Creates the codec with the default block and seed; `inner` encodes the rotated rows.
    pub fn new(inner: Box<dyn Codec>) -> Self {
        Self { version: FormatVersion, inner, block: Block::default(), seed: Bounded::at::<0>() }
    }

    /// Allocates signs for a row. Call it only if the tensor's values are in memory, or after
    /// checking that the payload has its full size.
    fn rotation(&self, spec: &TensorSpec) -> Result<Rotation> {
        let (_, columns) = spec.matrix();
        Rotation::new(columns, self.block.get(), self.seed.get())
    }
}

/// The spec of the tensor that `inner` encodes.
fn rotated_spec(spec: &TensorSpec) -> Result<TensorSpec> {
    TensorSpec::new(Dtype::F32, spec.shape())
}

/// Refuses a tensor if a rotated value is not finite. The framework refuses one whose decoded
/// values are not.
fn refuse_overflow(source: &TensorView<'_>, rotated: &[f32]) -> Result<()> {
    if first_non_finite(rotated).is_none() {
        return Ok(());
    }
    let reason = "a sum of a row's weights is beyond the range of f32; the largest magnitude is".to_owned();
    Err(CodecError::Unsuitable { reason, number: simd::max_abs(&source.to_f32()?).into() })
}

#[typetag::serde(name = "hadamard")]
impl Codec for Hadamard {
    fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
        vec![(INNER, &*self.inner)]
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        self.inner.needs().require_nothing()?;
        self.inner.accepts(&rotated_spec(spec)?)
    }

    fn chunking(&self, spec: &TensorSpec) -> Chunking {
        match rotated_spec(spec) {
            // Chunks would not share the statistics of the rotated tensor.
            Ok(rotated) if self.inner.as_surveyed().is_none() => self.inner.chunking(&rotated),
            _ => Chunking::Whole,
        }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let mut cost = self.inner.cost(rotated_spec(spec).as_ref().unwrap_or(spec));
        let (_, columns) = spec.matrix();
        let rotating = f64::from(rotation::depth(columns, self.block.get())) * spec.elements() as f64;
        cost.encode_ops += rotating;
        cost.decode_ops += rotating;
        // The rotated weights, and the signs of up to twice as many columns as a row has.
        cost.scratch_bytes = cost.scratch_bytes.saturating_add(4 * (spec.elements() + 2 * columns) as u64);
        cost
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let spec = tensor.spec();
        let mut rotated = tensor.to_finite_f32()?.into_owned();
        self.rotation(spec)?.forward(&mut rotated, cx.cancel)?;
        refuse_overflow(&tensor, &rotated)?;
        if cx.calibration.is_some() && self.inner.needs().calibration != Need::No {
            tracing::warn!("`hadamard` drops the calibration: its inner codec encodes mixtures of the inputs");
        }
        let child_cx = cx.for_child(INNER).with_progress(cx.progress);
        let child = self.inner.encode(TensorView::from_f32(spec.shape(), &rotated)?, &child_cx)?;
        Payload::new().with_scope(INNER, child)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        self.inner.decode(&rotated_spec(spec)?, payload.scoped(INNER), &cx.for_child(), out)?;
        self.rotation(spec)?.backward(out, cx.cancel)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        self.inner.as_rows().map(|_| self as _)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        (self.inner.as_linear().is_some() || self.inner.as_rows().is_some()).then_some(self)
    }
}

/// The presets use codecs of other crates; the registry keeps those of linked crates.
fn presets() -> Vec<Preset> {
    vec![
        Preset::from_spec("int4", "hadamard(quant.int:bits=4:group=128:symmetric=false)"),
        Preset::from_spec("nf4", "hadamard(quant.nf4:double_quant=true)"),
        Preset::from_spec("mxfp4", "hadamard(quant.mxfp4)"),
    ]
}

fn probes() -> Vec<String> {
    let specs = [
        "hadamard(quant.int:bits=2):block=32:seed=7",
        "hadamard(quant.q8_0)",
        "hadamard(residual(quant.int:bits=4,quant.int:bits=2))",
    ];
    specs.map(str::to_owned).into()
}

register_codec!("hadamard", "rows rotated by random signs and a Hadamard matrix, in another codec", presets, .children(&["inner"]).probes(probes));
