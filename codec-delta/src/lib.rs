//! Codecs that encode a tensor relative to a base tensor of the same dtype and shape, for instance
//! a fine-tuned model relative to the original model.
//!
//! | codec | what |
//! |---|---|
//! | [`delta.exact`](exact) | bit-exact: stores differences of ordered integers |
//! | [`delta.sign`](sign) | lossy: a sign bit for each weight, and scales for rows and columns |
//! | [`delta(inner)`](delta) | lossy: any codec encodes the difference |
//!
//! A payload stores the BLAKE3 hash of the base that it needs, and decodes only with this base. The
//! payload of a chunk stores the hash of the whole base.
//!
//! # How good they are
//! Payload bytes and relative error of the result, for a Llama of 969,216 weights and its
//! fine-tunes of 10, 100 and 400 steps, all in BF16 (1,938,432 bytes). `100 → 400` means that the
//! fine-tune of 100 steps is the base of the fine-tune of 400 steps. Command:
//! `netweight bench --suite model:TUNED --base BASE --cast bf16`.
//!
//! | | base → 10 | 100 → 400 | base → 400 |
//! |---|---|---|---|
//! | `delta.exact` | 629,656, 0 | 947,891, 0 | 1,055,521, 0 |
//! | `delta(quant.int:bits=8)` | 983,671, .00004 | 983,671, .00038 | 983,671, .00065 |
//! | `delta:preset=int4` | 505,495, .00063 | 505,495, .0059 | 505,495, .0103 |
//! | `delta.sign` | 159,920, .0046 | 159,920, .0267 | 159,920, .0456 |
//! | `delta:preset=rank8` (matrices) | 197,080, .0066 | 197,080, .0431 | 197,080, .0726 |
//! | `delta:preset=largest10` | 204,025, .0069 | 204,107, .0601 | 204,107, .1107 |
//!
//! The size of a lossy payload hardly depends on the difference between the two models. So for a
//! short fine-tune, the exact payload is smaller than 8-bit differences. For these fine-tunes,
//! `delta.sign` needs fewer bytes than `rank8` and `largest10`, and has a smaller error.

pub mod delta;
mod difference;
pub mod exact;
pub mod sign;

pub use delta::Delta;
pub use exact::ExactDelta;
pub use sign::Sign;
