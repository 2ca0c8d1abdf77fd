//! Tests of the `netweight` program.
#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod base;
#[cfg(feature = "runtime")]
mod calibrated;
mod disturbed;
mod packing;
#[cfg(feature = "runtime")]
mod planned;
mod program;
mod readme;
#[cfg(feature = "runtime")]
mod recipes;
mod runs;
mod transcripts;
