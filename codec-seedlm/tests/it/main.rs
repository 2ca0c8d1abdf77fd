//! The laws, the search, the format, and size and error of `seedlm`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod coded;
mod conformance;
mod exact;
mod extremes;
mod quality;
mod reference;

// Unit tests beside private code are compiled here: a test target of the library itself would
// compile all of its kernels once more.
#[allow(dead_code, unused_imports, unused_macros, reason = "only its tests run here")]
#[path = "../../src/block.rs"]
mod block;
#[allow(dead_code, reason = "only its tests run here")]
#[path = "../../src/grid.rs"]
mod grid;
#[allow(dead_code, reason = "only its tests run here")]
#[path = "../../src/lfsr.rs"]
mod lfsr;
