//! All codecs of Netweight. A program that names this crate has them in its registry:
//!
//! ```
//! use codecs as _;
//! ```
//!
//! The line is required: rustc does not link a crate that the code does not name, and an unlinked
//! crate registers no codecs. For each crate `codec-NAME`, this crate has a feature `NAME`; all
//! features are on by default.

#[cfg(feature = "compose")]
pub use codec_compose;
#[cfg(feature = "delta")]
pub use codec_delta;
#[cfg(feature = "lossless")]
pub use codec_lossless;
#[cfg(feature = "lowrank")]
pub use codec_lowrank;
#[cfg(feature = "quant")]
pub use codec_quant;
#[cfg(feature = "seedlm")]
pub use codec_seedlm;
#[cfg(feature = "sparse")]
pub use codec_sparse;
#[cfg(feature = "trellis")]
pub use codec_trellis;
