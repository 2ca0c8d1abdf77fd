//! Tests and measures Netweight's weight codecs.
//!
//! - [`suite`]: workloads, real and seeded
//! - [`matrix`]: every codec on every tensor of a suite
//! - [`report`]: what came out, as tables and files, and against an earlier run
//! - [`baseline`]: codecs that show what an error figure is worth
//! - [`testing`]: weights for the tests of a codec, and its size and error on them
//! - [`text`]: tables, and names out of files made safe to print

pub mod baseline;
pub mod matrix;
pub mod report;
pub mod suite;
pub mod testing;
pub mod text;
