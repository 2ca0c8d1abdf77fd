//! Trellis-coded quantisation: each weight is quantised together with the weights after it.
//!
//! - [`trellis`](coded): multiples of one step, entropy-coded. It reaches any given rate or error,
//!   and is a few hundredths of a bit per weight above Shannon's bound. Segments of 2¹⁸ weights
//!   decode separately.
//! - [`trellis.bitshift`](bitshift): each value is a hash of a window of a bit stream. It has a
//!   fixed rate of 1 to 4 bits per weight, and each row decodes alone.

pub mod bitshift;
pub mod coded;

pub use bitshift::{Bitshift, Code};
pub use coded::{States, Target, Trellis};
