//! A checkpoint of any size, with the shapes of a Llama model and normally distributed weights.

use std::path::Path;

use anyhow::Result;
use codec_api::Dtype;

use crate::made::{self, Made, Weights};

/// Inputs of a layer.
const HIDDEN: usize = 2048;
/// Outputs of the first two linear layers of an MLP.
const MLP: usize = 5504;
const VOCABULARY: usize = 32_000;

/// Writes a model of about `bytes` bytes: embedding, head, and as many layers as fit.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    let weights = &Weights::new(seed);
    let tensors = shapes(bytes).into_iter().map(|(name, shape)| {
        let (drawn, count) = (name.clone(), shape.iter().product());
        let bytes = move || made::bytes(&weights.draw(seed, &drawn, count));
        (name, Made { dtype: Dtype::BF16, shape, bytes })
    });
    made::write(path, tensors)
}

/// Names and shapes of the tensors.
fn shapes(bytes: u64) -> Vec<(String, Vec<usize>)> {
    let layer: [(&str, &[usize]); 9] = [
        ("input_layernorm", &[HIDDEN]),
        ("self_attn.q_proj", &[HIDDEN, HIDDEN]),
        ("self_attn.k_proj", &[HIDDEN, HIDDEN]),
        ("self_attn.v_proj", &[HIDDEN, HIDDEN]),
        ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
        ("post_attention_layernorm", &[HIDDEN]),
        ("mlp.gate_proj", &[MLP, HIDDEN]),
        ("mlp.up_proj", &[MLP, HIDDEN]),
        ("mlp.down_proj", &[HIDDEN, MLP]),
    ];
    let size = |shape: &[usize]| 2 * shape.iter().product::<usize>() as u64;
    let of_layer: u64 = layer.iter().map(|(_, shape)| size(shape)).sum();
    let ends = [("model.embed_tokens", &[VOCABULARY, HIDDEN]), ("lm_head", &[VOCABULARY, HIDDEN])];
    let of_ends: u64 = ends.iter().map(|(_, shape)| size(*shape)).sum();
    let layers = bytes.saturating_sub(of_ends).div_ceil(of_layer).max(1);
    let mut tensors: Vec<_> = ends.map(|(name, shape)| (format!("{name}.weight"), shape.to_vec())).into();
    for number in 0..layers {
        let tensor = |(name, shape): (&str, &[usize])| (format!("model.layers.{number}.{name}.weight"), shape.to_vec());
        tensors.extend(layer.map(tensor));
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_its_size_or_up_to_a_layer_more() {
        let total: usize = shapes(2 << 30).iter().map(|(_, shape)| 2 * shape.iter().product::<usize>()).sum();
        assert!((2 << 30..(2 << 30) + (110 << 20)).contains(&total), "{total}");
    }
}
