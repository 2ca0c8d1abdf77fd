//! The weights of a model as operators.

mod adapter;
mod dense;
mod ledger;
mod linear;
mod matrix;
mod origin;
mod source;
mod store;
mod table;

pub use adapter::{Adapter, low_rank_product};
pub(crate) use adapter::{Adapting, LowRank};
pub(crate) use dense::dense_operator;
pub use ledger::Demand;
pub(crate) use linear::{Linear, Piece, part, part_in_granules};
pub use source::Resident;
pub(crate) use source::Source;
pub(crate) use store::Store;
pub(crate) use table::Table;
