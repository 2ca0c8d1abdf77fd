//! What the cache is built from. A test compiles the cache with these types of `loom` instead,
//! which tries every order of the threads.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
