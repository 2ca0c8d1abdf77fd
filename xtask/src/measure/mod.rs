//! Runs of `netweight bench`, and tables of what they found.

mod bench;
mod column;
mod table;

pub use bench::{Bench, Cell};
pub use column::Measured;
pub use table::{Table, beside, error_beside, ratio, ratio_beside, significant, thousands};
