//! Tests of merges.
#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod methods;
mod support;
