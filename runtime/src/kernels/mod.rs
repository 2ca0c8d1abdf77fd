//! Kernels of the decoder. All of them give the same bits at every level.

mod dots;
mod functions;
mod norms;
mod softmax;

pub(crate) use dots::{Bf16, F16, Stored, dots};
pub use functions::activate;
pub(crate) use functions::{exp, multiply};
pub use norms::{layer_norm, rms_norm};
pub use softmax::softmax;
pub(crate) use softmax::{exponentials, largest, weighted_rows};
