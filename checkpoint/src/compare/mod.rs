//! Compares models: a packed one with its source, and any two with each other.

mod against;
mod diff;
mod hint;
mod structure;
mod values;

pub use diff::{Change, Difference, TensorDiff, diff};
pub(crate) use values::certificate;
