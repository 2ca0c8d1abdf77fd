//! Tests of the `netweight` program.
#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod base;
mod disturbed;
mod packing;
mod program;
mod readme;
mod runs;
mod transcripts;
