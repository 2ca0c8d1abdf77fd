//! Building and evaluating graphs.

#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod evaluation;
mod files;
mod hostile;
mod orders;
mod rewrites;
mod values;

/// The cache of the crate, with locks of loom.
#[path = "../../src/cache.rs"]
mod cache;

/// What the cache is built from. Reference counts are those of `std`: all that the cache does with
/// them is under its lock, and loom changes threads there.
mod sync {
    pub(crate) use std::sync::{Arc, PoisonError, Weak};

    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

mod graph {
    pub(crate) use ::graph::Node;
}

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;
