//! Fixtures.

use std::path::PathBuf;

use codec_api::{Bytes, Dtype, TensorSpec};
use merge::Stored;
use serde_json::Value;

pub fn fixture(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

pub fn floats(hex: &Value) -> Vec<f32> {
    bytes(hex).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

pub fn stored(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Stored {
    Stored::new(TensorSpec::new(dtype, shape).unwrap(), Bytes::from(bytes)).unwrap()
}
