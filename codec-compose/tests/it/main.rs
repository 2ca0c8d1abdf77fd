//! The laws, and what each combinator is for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod combinators;
mod conformance;
