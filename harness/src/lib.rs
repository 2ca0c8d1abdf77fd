//! Tests and measures Netweight's weight codecs.
//!
//! - [`suite`]: workloads: real models, and tensors generated from a seed
//! - [`matrix`]: every codec on every tensor of a suite
//! - [`report`]: results as tables and files, and their comparison with an earlier run
//! - [`models`]: the level above: language models packed by recipes, compared with the dense ones
//! - [`picture`]: pictures as SVG
//! - [`listing`]: the codecs and their presets
//! - [`baseline`]: trivial codecs as a reference for error figures
//! - [`testing`]: helpers for the tests of a codec: sample weights, and the codec's size and error
//!   on these weights
//! - [`text`]: tables, and safe printing of names from files

pub mod baseline;
pub mod listing;
pub mod matrix;
pub mod models;
pub mod picture;
pub mod report;
pub mod suite;
pub mod testing;
pub mod text;
