//! Bit-exact coding of tensors of every dtype, and one form of BF16: NaN payloads, negative zeros and all.
//!
//! | codec | what |
//! |---|---|
//! | [`lossless`](Exact) | planes of bytes with the models that suit them; or a palette, a Zstandard frame, the stored bytes |
//! | [`lossless.raw`](Raw) | the stored bytes themselves |
//! | [`lossless.zstd`](Zstd) | one Zstandard frame |
//! | [`lossless.bf16x12`](Bf16x12) | BF16 in twelve bits of fixed length, any row on its own |
//!
//! Each payload carries a CRC-32C of the stored bytes, so that a changed bit is an error and never data.

pub mod bf16x12;
pub mod exact;
pub mod raw;
pub mod zstd_frame;

pub use bf16x12::Bf16x12;
pub use exact::{Exact, Level};
pub use raw::Raw;
pub use zstd_frame::Zstd;
