//! Low-rank factors, `lowrank.svd`: a matrix as the sum of its largest components,
//! `W ≈ Σ s_k u_k v_kᵀ`. Another codec stores the singular vectors.
//!
//! `W` is the tensor's matrix view: a convolution kernel is a matrix `out × in·kh·kw`, and the
//! matrices of a stack of experts lie below one another and share the `v_k`. The matrix is scaled
//! by a power of two so that its largest weight is between 1 and 2, and then decomposed in f32. A
//! section holds the exponent; the stored singular values are those of the scaled matrix. Without
//! the scaling, a tensor of weights near the maximum of f32 could have a singular value beyond f32,
//! and the singular values of a tensor of subnormal weights would lose precision.
//!
//! The sign of each pair `u_k`, `v_k` is chosen so that the element of largest magnitude in `u_k`
//! (the first, if there are several) is positive. The inner codec gets tensors with the vectors as
//! rows, so that a scale by row or group belongs to one vector. If coarse codes change the lengths
//! of vectors, the singular values are refitted to the coded vectors.
//!
//! One key selects the number of components: `rank` (the number itself), `energy` (the fewest with
//! this share of `Σ w²`), `error` (the fewest with at most this relative Frobenius error after
//! coding, before the rounding to the stored dtype), or `bytes` (the most that fit, without
//! components that are only rounding errors). A decoded weight is summed in f64, over `k` in
//! ascending order, and rounded once to f32. So once the vectors are decoded, any range of rows
//! decodes without the other rows.
//!
//! # Source
//! A truncated decomposition is the best approximation of its rank: Eckart and Young,
//! Psychometrika 1 (1936).
//! `method=randomised` follows Halko, Martinsson and Tropp, arXiv 0909.4061, algorithms 4.4 and
//! 5.1, with random signs, 10 vectors of oversampling and 2 power iterations; for `energy` and
//! `error` the block of random vectors is doubled until it has enough components. The crate `faer`
//! computes the decompositions.
//!
//! # Sections
//! For a matrix `m × n` and rank `r`:
//! - `s` F32 `[r]`: singular values of the scaled matrix, largest first, or values refitted to the
//!   coded vectors; `r` is at least 1, even for a tensor of zeros;
//! - `exponent` I16 `[1]`, −149 to 127: all values of `s` are multiplied by 2^exponent;
//! - `u/…`: the inner codec's sections of F32 `[r, m]`, row `k` is `u_k`;
//! - `v/…`: the inner codec's sections of F32 `[r, n]`, row `k` is `v_k`.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"lowrank.svd","version":1,"#,
//!     r#""inner":{"codec":"quant.cast","version":1,"to":"f16"},"#,
//!     r#""rank":32,"method":"auto"}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lowrank as _, codec_quant as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! A header has one of `rank` (1 to 2³²−1), `energy` and `error` (above 0, at most 1) and `bytes`
//! (at least 1); the default is an `energy` of 0.9999. `method` is `exact`, `randomised` or `auto`;
//! `auto` means `randomised` if the shorter side is above 2048, and otherwise `exact`. If the
//! random block would have a third of the shorter side or more, `randomised` saves nothing, and the
//! exact method is used instead. With `energy` and `error`, `randomised` may keep one or two
//! components more than `exact`.
//!
//! # Bound
//! With `error`, the relative Frobenius error is at most the number in this key. With `energy`, the
//! error is at most the square root of the share of `Σ w²` that is left out, plus the error that
//! the inner codec adds. The other keys set no limit.
//!
//! # Cost
//! `4·r + 2` bytes, plus the inner codec's cost for `[r, m]` and `[r, n]`. Without the key `rank`,
//! the cost is a range, from rank 1 to the largest rank that pays (see Limits). A reader of rows
//! keeps the vectors as 8 bytes for each element of `u` and 4 for each of `v`. The linear operator
//! keeps both in f32.
//!
//! # Limits
//! F32, F16 and BF16. A rank pays if it is below the break-even `m·n / (m + n + 1)`, and its
//! sections take fewer bytes than the tensor; any other rank is refused. Two kinds of matrices
//! are not supported: those without a rank that pays (vectors, single rows and columns,
//! `m·n ≤ m + n + 1`); and those that could have a payload smaller than a 2²⁴th of their bytes
//! (very large ones, if the inner codec may shrink vectors to almost nothing).
//!
//! A convolution kernel must have its outputs on the first axis; `kh × kw × in × out` gives a
//! different matrix. The inner codec must need neither base nor calibration. Tensors are not cut
//! into chunks, and a decomposition cannot be interrupted. The decomposition is computed in f32, so
//! a relative error near 10⁻⁵ remains even with exactly stored vectors and all components of a
//! low-rank matrix. Every decomposition is checked: if the residual or the deviation from
//! orthonormal vectors is above 2⁻¹⁵, it is computed again in f64, by blocks of rows. If the
//! check fails again, the tensor is refused. Matrices with a side of 2¹⁹ or more, and long
//! matrices with nearly equal columns, need the second computation. The crate `faer` computes the
//! decompositions and selects its instructions by the CPU, so encodes on different CPUs may differ
//! in the last bits; a payload decodes to the same bits everywhere. Decoding clamps a weight to the
//! range of f32; the linear operator does not clamp a product.

mod check;
mod encode;
mod factors;
mod keys;
mod linear;
mod matrix;
mod refit;
mod rows;
mod size;
mod thin;
mod triples;

use codec_api::{
    Chunking, Codec, CostEstimate, DecodeCx, EncodeCx, LinearKernel, Payload, PayloadView, Preset, Result, RowReader,
    Rows, TensorSpec, TensorView, register_codec, typetag,
};
use factors::Factors;
pub use keys::{Keep, Method, Share, Svd};
use rows::{BLOCK, Tiles};
use size::Sizes;

#[typetag::serde(name = "lowrank.svd")]
impl Codec for Svd {
    fn children(&self) -> Vec<(&'static str, &dyn Codec)> {
        vec![("inner", &*self.inner)]
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()?;
        self.inner.needs().require_nothing()?;
        Sizes::new(&*self.inner, spec).accepts()
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        Chunking::Whole
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let sizes = Sizes::new(&*self.inner, spec);
        sizes.cost(self.keep).unwrap_or_else(|_| CostEstimate::fixed(u64::MAX))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        encode::encode(self, &tensor, cx)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let tiles = Tiles::new(&Factors::read(self, spec, &payload, cx)?);
        let (_, columns) = spec.matrix();
        for (block, out) in out.chunks_mut(BLOCK * columns).enumerate() {
            cx.cancel.check()?;
            let first = block * BLOCK;
            tiles.read(first..first + out.len() / columns, out)?;
        }
        Ok(())
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::from_spec("energy", "lowrank.svd(quant.cast:to=f16):energy=0.9999"),
        Preset::from_spec("rank8", "lowrank.svd(quant.cast:to=f16):rank=8"),
        Preset::from_spec("rank8-int8", "lowrank.svd(quant.int:bits=8:group=row:symmetric=true:clip=false):rank=8"),
        Preset::from_spec("half-energy", "lowrank.svd(quant.cast:to=f16):energy=0.5"),
        Preset::from_spec("half-error", "lowrank.svd(quant.int:bits=8:group=row:symmetric=true:clip=false):error=0.5"),
    ]
}

fn probes() -> Vec<String> {
    let specs = [
        "lowrank.svd(lossless.raw):energy=0.6",
        "lowrank.svd(lossless.zstd):bytes=600",
        "lowrank.svd(lossless.zstd):error=0.6",
        "lowrank.svd(quant.int:bits=3):rank=3:method=randomised",
        "lowrank.svd(quant.q8_0):rank=2",
        "lowrank.svd(quant.int:bits=4:group=32):energy=0.4:method=randomised",
        "lowrank.svd(quant.int:bits=4):error=0.7:method=randomised",
        "lowrank.svd:bytes=600",
        "lowrank.svd:rank=1:method=exact",
        "lowrank.svd(lossless.raw):energy=1",
    ];
    specs.map(str::to_owned).into()
}

register_codec!(
    "lowrank.svd",
    "the largest components of a matrix, their vectors in another codec",
    presets,
    .children(&["inner"]).default_children(&["quant.cast:to=f16"]).probes(probes)
);
