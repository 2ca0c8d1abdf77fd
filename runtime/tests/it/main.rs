//! The decoder against reference logits; and the generic operator, which keeps law 8 over every
//! codec that has no operator of its own.
#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod adapters;
mod chat;
mod demand;
mod folds;
mod models;
mod operators;
mod refused;
mod sizes;
mod stories;
mod support;
