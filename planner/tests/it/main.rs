//! Decisions against exhaustive search, queues against theory, files and their errors.

mod fleets;
mod profiles;
mod queues;
mod routing;
mod seed001;
