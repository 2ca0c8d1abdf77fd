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

/// Writes a model: tensors by name, with dtype, shape and f32 values, and a configuration.
pub fn write_model(dir: &std::path::Path, tensors: &[(String, Dtype, Vec<usize>, Vec<f32>)], config: &Value) {
    std::fs::create_dir_all(dir).unwrap();
    let stored: Vec<(&String, Dtype, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, dtype, shape, values)| (name, *dtype, shape, codec_api::util::narrowed(*dtype, values).unwrap()))
        .collect();
    let views = stored.iter().map(|(name, dtype, shape, bytes)| {
        ((*name).clone(), safetensors::tensor::TensorView::new(*dtype, (*shape).clone(), bytes).unwrap())
    });
    std::fs::write(dir.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

/// Values that look random, from -1 to 1.
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let draws = merge::Draws::new(seed, 0, "noise");
    (0..count).map(|i| (f64::from(draws.at(i)) / 2_147_483_648.0 - 1.0) as f32).collect()
}

/// A small Llama of so many layers.
pub fn llama(seed: u64, layers: usize, dtype: Dtype, head: bool) -> Vec<(String, Dtype, Vec<usize>, Vec<f32>)> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let count = shape.iter().product();
        let values = noise(seed * 1000 + tensors.len() as u64, count);
        tensors.push((name, dtype, shape.to_vec(), values));
    };
    add("model.embed_tokens.weight".to_owned(), &[20, 16]);
    for layer in 0..layers {
        for (name, shape) in [
            ("input_layernorm", &[16][..]),
            ("self_attn.q_proj", &[16, 16]),
            ("self_attn.o_proj", &[16, 16]),
            ("mlp.up_proj", &[24, 16]),
            ("mlp.down_proj", &[16, 24]),
        ] {
            add(format!("model.layers.{layer}.{name}.weight"), shape);
        }
    }
    add("model.norm.weight".to_owned(), &[16]);
    if head {
        add("lm_head.weight".to_owned(), &[20, 16]);
    }
    tensors
}

pub fn config(layers: usize, tie: bool) -> Value {
    serde_json::json!({
        "model_type": "llama", "num_hidden_layers": layers, "vocab_size": 20, "hidden_size": 16,
        "tie_word_embeddings": tie, "torch_dtype": "float32"
    })
}
