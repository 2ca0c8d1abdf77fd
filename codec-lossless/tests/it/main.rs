//! Sizes of what `lossless` makes of weights, and damage to it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod damage;
mod sizes;
