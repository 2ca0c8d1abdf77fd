//! Sizes of what the codecs make of weights, parts of it, and damage to it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod bf16x12;
mod conformance;
mod damage;
mod sizes;
