//! The toolbox of codecs: nothing here is part of the contract.

mod bits;
mod blocks;
mod exact;
mod floats;
mod importance;
mod nesting;
mod transpose;
mod zeros;

pub use bits::{pack_bits, unpack_bits};
pub use blocks::read_blocks;
pub use exact::{Checksum, decode_exact};
pub use floats::{first_non_finite, narrow, narrowed, round, widen};
pub use importance::{Importance, relative_importance};
pub use nesting::is_nested_deeper;
pub use transpose::{transpose, transpose_to};
pub use zeros::zeros;
