//! Registry, headers and seeds.

mod headers;
mod registry;
mod seeds;
mod sign;
