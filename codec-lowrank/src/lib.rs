//! Low-rank factors, `lowrank.svd`: a matrix as the sum of its largest components, `W ≈ Σ s_k u_k v_kᵀ`, whose singular vectors
//! another codec stores.
//!
//! The first axis of the tensor counts the rows of `W`, all others together its columns: a convolution kernel is
//! `out × in·kh·kw`. The matrix is scaled by a power of two until its largest weight is between 1 and 2, and decomposed in f32. Of each
//! pair of vectors, the one of `u` has its element of largest magnitude (the first of several) positive. They are rows of the
//! tensors that the inner codec gets, so that a scale by row or group belongs to one vector. It codes them on their own; where
//! coarse codes change their lengths, the singular values are fitted anew to the coded vectors. What is measured and certified is the product
//! that decoding makes.
//!
//! How many components are kept is one key: `rank` (so many), `energy` (the fewest that hold this share of `Σ w²`), `error` (the
//! fewest whose coded form has at most this relative Frobenius error), `bytes` (the most that fit, without those that are rounding).
//! A decoded weight is the sum in f64 over `k` ascending, rounded once to f32.
//!
//! # Source
//! Truncation is the best approximation of its rank: Eckart and Young, Psychometrika 1 (1936). `method=randomised` is Halko,
//! Martinsson and Tropp, arXiv 0909.4061, algorithms 4.4 and 5.1, with random signs, 10 vectors of oversampling and 2 power
//! iterations; for `energy` and `error` the block is doubled until it holds enough. The decompositions are faer's.
//!
//! # Sections
//! For a matrix `m × n` and rank `r`:
//! - `s` F32 `[r]`: singular values of the scaled matrix, largest first (or what suits the coded vectors better); `r` is at least 1, also for a tensor of zeros;
//! - `exponent` I16 `[1]`, −149 to 127: all values of `s` are multiplied by 2^exponent;
//! - `u/…`: the inner codec's sections of F32 `[r, m]`, row `k` is `u_k`;
//! - `v/…`: the inner codec's sections of F32 `[r, n]`, row `k` is `v_k`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"lowrank.svd","version":1,"inner":{"codec":"quant.cast","version":1,"to":"f16"},"rank":32,"method":"auto"}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lowrank as _, codec_quant as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! One of `rank` (1 to 2³²−1), `energy` and `error` (above 0, at most 1), `bytes` (at least 1); if none is given, `energy` is 0.9999.
//! `method` is `exact`, `randomised`, or `auto`: randomised where the shorter side is above 2048. A random block of a third of the shorter
//! side or more is not worth it; the decomposition is exact then. With `energy` and `error`, a random block may keep one or two components more.
//!
//! # Bound
//! `MaxAbs`, measured; `RelFrobenius` where a weight near the end of f32 is off by more than an f32 can say.
//!
//! # Cost
//! `4·r + 2` bytes, and what the inner codec takes for `[r, m]` and `[r, n]`. Unless `rank` is given, from rank 1 to the largest rank that
//! pays.
//!
//! # Limits
//! F32, F16 and BF16. A rank pays below the break-even `m·n / (m + n + 1)`, and while its sections take fewer bytes than the tensor; another
//! is unsuitable. Matrices of which no rank pays (vectors, single rows and columns, `m·n ≤ m + n + 1`) are not supported,
//! nor are those that a payload of a 2²⁴th of their bytes could stand for (very large ones, if the inner codec may shrink vectors to almost nothing).
//! A convolution kernel must have its outputs on the first axis; `kh × kw × in × out` makes a matrix of `kh` rows.
//! The inner codec may need neither base nor calibration. Tensors are not cut into chunks, and a decomposition is not interrupted. It
//! is of f32: with exact vectors an error stays near 10⁻⁵ even where the rank is exact. faer chooses its instructions by the CPU: another CPU
//! may encode to other last bits, and decodes to the same ones everywhere. The linear operator does not hold a
//! product at the largest f32, as decoding does with a weight.

mod encode;
mod factors;
mod keys;
mod linear;
mod matrix;
mod refit;
mod size;
mod triples;

use codec_api::{
    Chunking, Codec, CostEstimate, DecodeCx, EncodeCx, LinearKernel, Payload, PayloadView, Preset, Result, TensorSpec,
    TensorView, register_codec, typetag,
};
use factors::Factors;
pub use keys::{Keep, Method, Share, Svd};
use size::Sizes;

#[typetag::serde(name = "lowrank.svd")]
impl Codec for Svd {
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
        Factors::read(self, spec, &payload, cx)?.multiply(cx.cancel, out)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }
}

fn presets() -> Vec<Preset> {
    let f16 = r#"{"codec":"quant.cast","version":1,"to":"f16"}"#;
    let int8 = r#"{"codec":"quant.int","version":1,"bits":8,"group":"row","symmetric":true,"clip":false}"#;
    let preset = |name, inner: &str, keep: &str| {
        let header = format!(r#"{{"codec":"lowrank.svd","version":1,"inner":{inner},{keep},"method":"auto"}}"#);
        Preset::from_header(name, &header)
    };
    let presets = [
        preset("energy", f16, r#""energy":0.9999"#),
        preset("rank8", f16, r#""rank":8"#),
        preset("rank8-int8", int8, r#""rank":8"#),
        preset("half-energy", f16, r#""energy":0.5"#),
        preset("half-error", int8, r#""error":0.5"#),
    ];
    presets.into_iter().flatten().collect()
}

register_codec!(
    "lowrank.svd",
    "the largest components of a matrix, their vectors in another codec",
    presets,
    .children(&["inner"]).default_children(&["quant.cast:to=f16"])
);
