//! Trellis-coded quantisation: each weight is quantised together with the weights after it.
//!
//! - [`trellis`](coded): multiples of one step, entropy-coded. It reaches any given rate or error,
//!   and is a few hundredths of a bit per weight above Shannon's bound. Segments of 2¹⁸ weights
//!   decode separately.
//! - [`trellis.bitshift`](bitshift): each value is a hash of a window of a bit stream. It has a
//!   fixed rate of 1 to 4 bits per weight, and each row decodes alone.
//! - [`trellis.columns`](columns): multiples of a step for each row and each column, entropy-coded
//!   and encoded column by column, so that errors can be fed forward.

pub mod bitshift;
pub mod coded;
pub mod columns;

pub use bitshift::{Bitshift, Code};
pub use coded::{States, Target, Trellis};
pub use columns::{Columns, Order};
