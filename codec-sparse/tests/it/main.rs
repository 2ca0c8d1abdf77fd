//! Sizes, layouts, pruning and damaged payloads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod conformance;
mod extremes;
mod forms;
mod hostile;
mod prune;
mod sizes;
mod support;
