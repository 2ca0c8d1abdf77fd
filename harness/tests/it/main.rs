//! Suites, the matrix and its reports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod calibration;
mod matrix;
mod model;
mod report;
mod scratch;
mod suite;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;
