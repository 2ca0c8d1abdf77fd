//! Runs of the matrix, and tables of their results.

mod bench;
mod column;
mod presets;
mod shannon;
mod table;

pub use bench::Bench;
pub use column::{Column, Measured};
pub use presets::presets;
pub use shannon::{gap, least_nmse};
pub use table::{Table, beside, error_beside, paragraph, ratio, ratio_beside, significant, thousands};
