//! Codecs that keep every bit, also of NaNs and negative zeros: three for every dtype, and one for
//! BF16.
//!
//! | codec | what |
//! |---|---|
//! | [`lossless`](Exact) | planes of bytes, a palette, a Zstandard frame, or the stored bytes |
//! | [`lossless.raw`](Raw) | the stored bytes themselves |
//! | [`lossless.zstd`](Zstd) | one Zstandard frame |
//! | [`lossless.bf16x12`](Bf16x12) | BF16 in twelve bits per weight, with access to any row |
//!
//! Each payload contains a CRC-32C of the tensor's bytes. A decode of the whole tensor checks it,
//! so that a changed bit causes an error and never a wrong weight. A reader of rows does not check
//! it.

pub mod bf16x12;
pub mod exact;
pub mod raw;
pub mod zstd_frame;

pub use bf16x12::Bf16x12;
pub use exact::{Exact, Level};
pub use raw::Raw;
pub use zstd_frame::Zstd;
