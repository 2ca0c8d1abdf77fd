//! Tests of merges.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may")]

mod layouts;
#[cfg(feature = "graph")]
mod lazy;
mod lora;
mod methods;
mod recipes;
mod running;
mod support;
mod vocabulary;
