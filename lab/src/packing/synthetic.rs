//! A checkpoint of any size, with the shapes of a Llama model and normally distributed weights.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result};
use half::bf16;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use safetensors::{Dtype, View, serialize_to_file};

/// Inputs of a layer.
const HIDDEN: usize = 2048;
/// Outputs of the first two linear layers of an MLP.
const MLP: usize = 5504;
const VOCABULARY: usize = 32_000;
/// Standard deviation of the weights.
const DEVIATION: f64 = 0.02;

/// A BF16 tensor whose values are drawn when they are written, so that the memory holds one tensor
/// at a time.
struct Drawn<'a> {
    shape: Vec<usize>,
    seed: u64,
    table: &'a [bf16],
}

impl View for Drawn<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let mut bytes = Vec::with_capacity(self.data_len());
        while bytes.len() < self.data_len() {
            let drawn = random.next_u64();
            for shift in [0, 16, 32, 48] {
                bytes.extend(self.table[usize::from((drawn >> shift) as u16)].to_le_bytes());
            }
        }
        bytes.truncate(self.data_len());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        2 * self.shape.iter().product::<usize>()
    }
}

/// Writes a model of about `bytes` bytes: embedding, head, and as many layers as fit.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    let table = normal(seed);
    let tensors = shapes(bytes).into_iter().zip(seed..).map(|((name, shape), seed)| {
        let table = &table;
        (name, Drawn { shape, seed, table })
    });
    serialize_to_file(tensors, None, path).with_context(|| format!("cannot write `{}`", path.display()))
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

/// 65,536 normally distributed weights, of which every tensor is drawn.
fn normal(seed: u64) -> Vec<bf16> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut uniform = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    // Box and Muller, A note on the generation of random normal deviates.
    let mut pair = || {
        let (radius, angle) = ((-2.0 * (1.0 - uniform()).ln()).sqrt(), std::f64::consts::TAU * uniform());
        [radius * angle.cos(), radius * angle.sin()]
    };
    (0..1 << 15).flat_map(|_| pair()).map(|weight| bf16::from_f64(DEVIATION * weight)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_size_and_the_weights() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let tensor = |seed| Drawn { shape: vec![64, 64], seed, table: &normal(1) }.data().into_owned();
        assert_eq!(tensor(3), tensor(3));
        assert_ne!(tensor(3), tensor(4));
        let values = normal(1);
        let square = values.iter().map(|w| w.to_f64().powi(2)).sum::<f64>() / values.len() as f64;
        assert!((square.sqrt() / DEVIATION - 1.0).abs() < 0.01, "{square}");
        let total: usize = shapes(2 << 30).iter().map(|(_, shape)| 2 * shape.iter().product::<usize>()).sum();
        assert!((2 << 30..(2 << 30) + (110 << 20)).contains(&total), "{total}");
        let few = [("a".to_owned(), Drawn { shape: vec![3, 1], seed: 0, table: &values })];
        serialize_to_file(few, None, &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len() % 8, 6);
    }
}
