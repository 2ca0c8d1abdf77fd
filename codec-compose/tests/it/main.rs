//! The laws, and what each combinator is for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod combinators;
mod conformance;

// Unit tests beside private code are compiled here: a test target of the library itself would
// compile all of its kernels once more.
#[allow(dead_code, reason = "only its tests run here")]
#[path = "../../src/hadamard/rotation.rs"]
mod rotation;
