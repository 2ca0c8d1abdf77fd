//! Bit-exact coding of tensors of every dtype, including NaN payloads and negative zeros, and a
//! form for BF16 only.
//!
//! | codec | what |
//! |---|---|
//! | [`lossless`](Exact) | planes of bytes, a palette, a Zstandard frame, or the stored bytes |
//! | [`lossless.raw`](Raw) | the stored bytes themselves |
//! | [`lossless.zstd`](Zstd) | one Zstandard frame |
//! | [`lossless.bf16x12`](Bf16x12) | BF16 in twelve bits of fixed length, with access to any row |
//!
//! Each payload carries a CRC-32C of the stored bytes, so that a changed bit is an error and never
//! data.

pub mod bf16x12;
pub mod exact;
pub mod raw;
pub mod zstd_frame;

pub use bf16x12::Bf16x12;
pub use exact::{Exact, Level};
pub use raw::Raw;
pub use zstd_frame::Zstd;
