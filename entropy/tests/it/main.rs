//! Streams and planes come back, and damage is found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod planes;
mod streams;
