//! The laws, what each combinator is for, ranges of rows, and products.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use codec_api::{Codec, DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
use codec_compose as _;
use codec_delta as _;
use codec_lossless as _;
use codec_lowrank as _;
use codec_quant as _;
use codec_sparse as _;
use codec_trellis as _;

mod combinators;
mod conformance;
mod levels;
mod parts;

// Unit tests beside private code are compiled here: a test target of the library itself would
// compile all of its kernels once more.
#[allow(dead_code, reason = "only its tests run here")]
#[path = "../../src/hadamard/rotation.rs"]
mod rotation;

/// Rows of whole windows, of overlapping windows, and shorter than a vector.
const WIDTHS: [usize; 9] = [1, 3, 7, 16, 100, 384, 1000, 1024, 2500];

fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().unwrap().parse_spec(spec).unwrap()
}

fn encoded(spec: &str, shape: &[usize], values: &[f32], cx: &EncodeCx<'_>) -> EncodedTensor {
    EncodedTensor::encode(codec(spec), TensorView::from_f32(shape, values).unwrap(), cx).unwrap()
}

fn decoded(spec: &str, shape: &[usize], values: &[f32], cx: &EncodeCx<'_>) -> Vec<f32> {
    encoded(spec, shape, values, cx).decode(&DecodeCx::new()).unwrap()
}
