//! Bit-exact coding of tensors of every dtype: NaN payloads, negative zeros and all.
//!
//! | codec | what |
//! |---|---|
//! | [`lossless`](Exact) | planes of bytes with the models that suit them, or one of the others |
//! | [`lossless.raw`](Raw) | the stored bytes themselves |
//! | [`lossless.zstd`](Zstd) | one Zstandard frame |
//!
//! Each payload carries a CRC-32C of the stored bytes, so that a changed bit is an error and never data.

pub mod exact;
pub mod raw;
pub mod zstd_frame;

pub use exact::{Exact, Level};
pub use raw::Raw;
pub use zstd_frame::Zstd;
