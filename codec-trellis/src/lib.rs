//! Trellis-coded quantisation: a weight is quantised together with those after it.

pub mod coded;

pub use coded::{States, Target, Trellis};
