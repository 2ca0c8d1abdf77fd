//! Integration tests of this crate, in one binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may")]

use codec_quant as _;

mod conformance;
mod float_formats;
mod ggml;
mod large;
mod quality;
mod settings;
mod vector;
