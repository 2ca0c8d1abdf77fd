//! Tests and measures Netweight's weight codecs.
//!
//! - [`suite`]: workloads, real and seeded
//! - [`matrix`]: every codec on every tensor of a suite
//! - [`report`]: results as tables and files, and compared with an earlier run
//! - [`laws`]: the laws that every codec must keep, as functions and as the tests of
//!   [`conformance!`]
//! - [`strategies`]: property-test strategies for tensors
//! - [`support`]: the dtypes and ranks that each codec accepts
//! - [`baseline`]: trivial codecs as a reference for error figures
//! - [`testing`]: for the tests of a codec: weights, and the codec's size and error on them
//! - [`text`]: tables, and safe printing of names from files

pub mod baseline;
pub mod laws;
pub mod matrix;
pub mod report;
pub mod strategies;
pub mod suite;
pub mod support;
pub mod testing;
pub mod text;
