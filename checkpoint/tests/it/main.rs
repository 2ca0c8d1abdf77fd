//! Reading of valid files, refusal of all others. Files are put together by hand, so that wrong ones can be.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod directories;
mod hostile;
mod identity;
mod invalid;
mod real_model;
mod support;
mod traces;
mod values;
