//! Payload sizes of weights, partial decoding, and damage.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod bf16x12;
mod conformance;
mod damage;
mod sizes;
