//! Integration tests of this crate, in one binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may")]

use codec_quant as _;

mod calibration;
mod conformance;
mod extremes;
mod feedback;
mod float_formats;
mod ggml;
mod ggml_reference;
mod large;
mod quality;
mod settings;
mod ternary;
mod vectors;

// Unit tests beside private code are compiled here: a test target of the library itself would
// compile all of its kernels once more.
#[allow(dead_code, reason = "only its tests run here")]
#[path = "../../src/minifloat.rs"]
mod minifloat;
#[allow(dead_code, unused_imports, reason = "only its tests run here")]
#[path = "../../src/packing.rs"]
mod packing;
#[allow(dead_code, unreachable_pub, reason = "only its tests run here")]
#[path = "../../src/vector"]
mod vector {
    pub(crate) mod points;
    mod search;
    mod train;
}
