//! The weights of a model as operators.

mod adapter;
mod dense;
mod linear;
mod matrix;
mod source;
mod table;

pub use adapter::Adapter;
pub(crate) use adapter::{Adapting, LowRank};
pub(crate) use linear::{Linear, part};
pub use source::Resident;
pub(crate) use source::Source;
pub(crate) use table::Table;
