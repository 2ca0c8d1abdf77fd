//! Runs of `netweight bench`, and tables of what they found.

mod bench;
mod column;
mod presets;
mod shannon;
mod table;

pub use bench::{Bench, Cell};
pub use column::{Column, Measured};
pub use presets::presets;
pub use shannon::{gap, least_nmse};
pub use table::{Table, beside, error_beside, ratio, ratio_beside, significant, thousands};
