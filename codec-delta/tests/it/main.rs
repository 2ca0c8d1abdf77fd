//! Bases, errors against theory, sizes, exact round trips, and damage.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod bases;
mod conformance;
mod damage;
mod delta;
#[path = "../../../codec-lossless/tests/it/ends.rs"]
mod ends;
mod exact;
mod extremes;
mod sign;
mod support;

// Unit tests beside private code are compiled here: a test target of the library itself would
// compile all of its kernels once more.
#[allow(dead_code, reason = "only its tests run here")]
#[path = "../../src/exact"]
mod exact_units {
    mod gaps;
    mod symbols;
}
