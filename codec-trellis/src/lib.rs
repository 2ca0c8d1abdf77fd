//! Trellis-coded quantisation: each weight is quantised together with its successors.
//!
//! - [`trellis`](coded): multiples of one step, entropy-coded. It meets any rate or error, a few
//!   hundredths of a bit above Shannon's bound, and decodes by segments of 2¹⁸ weights.
//! - [`trellis.bitshift`](bitshift): windows of a bit stream, hashed to values. It has a fixed rate
//!   of 1 to 4 bits, decodes from any position, and multiplies vectors.

pub mod bitshift;
pub mod coded;

pub use bitshift::{Bitshift, Code};
pub use coded::{States, Target, Trellis};
