//! Tensors relative to a base tensor of the same dtype and shape, as a fine-tuned model beside the
//! original model.
//!
//! | codec | what |
//! |---|---|
//! | [`delta.exact`](exact) | every bit, as differences of ordered integers |
//! | [`delta.sign`](sign) | a bit for each weight, and scales for rows and columns |
//! | [`delta(inner)`](delta) | any codec for the difference |
//!
//! A payload names its base by blake3, and decodes with no other.
//!
//! # How good they are
//! Payload bytes and relative error of the result, for a Llama of 969,216 weights and its
//! fine-tunes of 10, 100 and 400 steps, all in BF16 (1,938,432 bytes). Command:
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
//! The lossy codecs take the same bytes however different the two models are. So the exact codec is
//! smaller than 8-bit differences of a short fine-tune. Per bit, signs with scales preserve more of
//! these fine-tunes than low rank or the largest differences.

mod base;
pub mod delta;
mod difference;
pub mod exact;
pub mod sign;

pub use delta::Delta;
pub use exact::ExactDelta;
pub use sign::Sign;
