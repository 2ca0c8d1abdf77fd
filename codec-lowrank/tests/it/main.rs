//! Quality and settings of `lowrank.svd`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;
mod conformance;
mod extremes;
mod harmonic;
mod long;
mod products;
mod quality;
mod settings;
