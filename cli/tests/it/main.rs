//! Tests of the `netweight` program.
#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod disturbed;
mod base;
mod packing;
mod program;
mod runs;
mod transcripts;
