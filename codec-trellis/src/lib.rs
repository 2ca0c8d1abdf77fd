//! Trellis-coded quantisation: a weight is quantised together with those after it.
//!
//! | codec | what |
//! |---|---|
//! | [`trellis`](coded) | multiples of one step, entropy-coded: any rate or error, a few hundredths of a bit above Shannon's bound; decodes by segments of 2¹⁸ weights |
//! | [`trellis.bitshift`](bitshift) | windows of a bit stream, hashed to values: 1 to 4 bits at a fixed rate, decodes anywhere, multiplies vectors |

pub mod bitshift;
pub mod coded;

pub use bitshift::{Bitshift, Code};
pub use coded::{States, Target, Trellis};
