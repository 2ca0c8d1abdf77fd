//! Scalar and block quantisation: every weight becomes a small integer, and a few scales give it its size back.
//!
//! | codec | bits per weight | what |
//! |---|---|---|
//! | [`quant.int`](IntQuant) | 2–8 + scales | uniform integers, symmetric or with a zero point, by group, row or tensor |
//! | [`quant.nf4`](Nf4) | 4.5, or 4.127 | 16 quantiles of the normal distribution, blocks of 64 |
//! | [`quant.ternary`](Ternary) | 1.6 | −1, 0, +1, five weights to a byte |
//! | [`quant.cast`](Cast) | 16 | IEEE half precision or bfloat16 |
//!
//! Every method certifies the largest absolute error, measured while it encodes.

pub mod cast;
mod error;
pub mod ggml;
pub mod int;
pub mod nf4;
mod packing;
pub mod ternary;

pub use cast::{Cast, Target};
pub use int::{Group, IntQuant};
pub use nf4::Nf4;
pub use ternary::{Fit, Scope, Ternary};

/// Heap bytes of the f32 copy that an encoder makes of a 16-bit source.
fn widened_bytes(spec: &codec_api::TensorSpec) -> u64 {
    if spec.dtype() == codec_api::Dtype::F32 { 0 } else { 4 * spec.elements() as u64 }
}
