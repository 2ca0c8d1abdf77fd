//! Tensors relative to a base tensor of the same dtype and shape: a fine-tuned model beside the one it was made from.
//!
//! | codec | what |
//! |---|---|
//! | [`delta.exact`](exact) | every bit, as differences of ordered integers |
//! | [`delta.sign`](sign) | a bit for each weight, and scales for rows and columns |
//! | [`delta(inner)`](delta) | any codec for the difference |
//!
//! A payload names its base by blake3, and is decoded with no other.

mod base;
pub mod delta;
mod difference;
pub mod exact;
pub mod sign;

pub use delta::Delta;
pub use exact::ExactDelta;
pub use sign::Sign;
