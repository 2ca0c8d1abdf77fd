//! The laws, the search, the format, and size and error of `seedlm`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod coded;
mod conformance;
mod exact;
mod quality;
mod reference;
