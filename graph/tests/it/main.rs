//! Building and evaluating graphs.

#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod evaluation;
mod files;
mod rewrites;
mod values;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;
