//! Decisions against exhaustive search, queues against theory, files and their errors.

#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod fleets;
mod profiles;
mod queues;
mod routing;
mod search;
mod seed001;
