//! Registry, headers and seeds.

mod certified;
mod chunks;
mod headers;
mod matrix;
mod registry;
mod seeds;
mod sign;
