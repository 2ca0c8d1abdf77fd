//! Bases, errors against theory, and what comes back exactly.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod bases;
mod delta;
mod sign;
mod support;
