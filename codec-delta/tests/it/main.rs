//! Bases, errors against theory, sizes, exact round trips, and damage.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod bases;
mod conformance;
mod damage;
mod delta;
mod exact;
mod sign;
mod support;
