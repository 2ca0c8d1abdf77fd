//! Scalar, block and vector quantisation: weights become small integer codes, and scales restore
//! their magnitude.
//!
//! | codec | bits per weight | what |
//! |---|---|---|
//! | [`quant.int`](IntQuant) | 2–8 + scales | uniform integers, symmetric or with a zero point, by group, row or tensor |
//! | [`quant.nf4`](Nf4) | 4.5, or 4.127 | 16 quantiles of the normal distribution, blocks of 64 |
//! | [`quant.mxfp4`](Mxfp4) | 4.25 | OCP MXFP4: E2M1 floats, a power-of-two scale for every 32 weights |
//! | [`quant.nvfp4`](Nvfp4) | 4.5 | NVFP4: E2M1 floats, an E4M3 scale for every 16 weights |
//! | [`quant.fp8`](Fp8) | 8 | E4M3 or E5M2, a scale by tensor or row |
//! | [`quant.ternary`](Ternary) | 1.6, or 2 | −1, 0, +1: five weights a byte, or two bits each |
//! | [`quant.q8_0`](ggml::Q8_0) … [`quant.q2_k`](ggml::Q2K), [`quant.iq4_nl`](ggml::Iq4Nl), [`quant.iq4_xs`](ggml::Iq4Xs) | 8.5 … 2.625 | the [block formats of ggml](ggml), byte for byte |
//! | [`quant.vector`](VectorQuant) | 2–4 + codebooks | vectors of 2 to 8 weights from one or two trained codebooks |
//! | [`quant.cast`](Cast) | 16 | IEEE half precision or bfloat16 |

mod blocks;
pub mod cast;
mod e2m1;
pub mod fp8;
pub mod ggml;
mod importance;
pub mod int;
mod minifloat;
pub mod mxfp4;
pub mod nf4;
pub mod nvfp4;
mod packing;
mod panels;
mod scope;
pub mod ternary;
pub mod vector;

pub use cast::{Cast, Target};
pub use fp8::Fp8;
pub use int::{Group, IntQuant};
pub use mxfp4::Mxfp4;
pub use nf4::Nf4;
pub use nvfp4::Nvfp4;
pub use scope::Scope;
pub use ternary::{Fit, Packing, Ternary};
pub use vector::VectorQuant;

use std::num::NonZeroUsize;

use codec_api::{DecodeCx, Dtype, PayloadView, Result, Rows, TensorSpec};

/// Decodes all rows.
fn decode_rows(
    codec: &impl Rows,
    spec: &TensorSpec,
    payload: PayloadView<'_>,
    cx: &DecodeCx<'_>,
    out: &mut [f32],
) -> Result<()> {
    spec.check_output(out.len())?;
    let reader = codec.open(spec, payload, cx)?;
    cx.cancel.check()?;
    reader.read(0..spec.matrix().0, out)
}

/// The granule of rows in a tensor whose blocks need not begin where rows begin.
fn rows_of_block(block: usize, columns: usize) -> NonZeroUsize {
    NonZeroUsize::new(block / columns.max(1)).unwrap_or(NonZeroUsize::MIN)
}

/// Heap bytes of the importances that an encoder reads from calibration.
fn importance_bytes(spec: &TensorSpec) -> u64 {
    let (rows, columns) = spec.matrix();
    (size_of::<f32>() * rows.max(columns)) as u64
}

/// Heap bytes of the f32 copy that an encoder makes of a 16-bit source.
fn widened_bytes(spec: &TensorSpec) -> u64 {
    if spec.dtype() == Dtype::F32 { 0 } else { 4 * spec.elements() as u64 }
}

/// Midpoints between sixteen ascending levels; the last entry is unused.
const fn middles(levels: &[f32; simd::LANES]) -> [f32; simd::LANES] {
    let mut middles = [0.0; simd::LANES];
    let mut i = 0;
    while i + 1 < simd::LANES {
        middles[i] = (levels[i] + levels[i + 1]) * 0.5;
        i += 1;
    }
    middles
}
