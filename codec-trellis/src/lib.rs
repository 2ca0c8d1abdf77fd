//! Trellis-coded quantisation: a weight is quantised together with those after it.

pub mod bitshift;
pub mod coded;

pub use bitshift::{Bitshift, Code};
pub use coded::{States, Target, Trellis};
