//! Architectures of known models, with random weights.

use std::path::Path;

use codec_api::Dtype;
use serde_json::{Value, json};

use super::dense::{CONFIG, Named, write};
use crate::config::{Attention, Config};
use crate::error::Result;

/// Standard deviation of the weights of matrices, as in models before their training.
const DEVIATION: f32 = 0.02;

/// An architecture: the `config.json` of a model without experts.
#[derive(Clone, Debug)]
pub struct Shape(Value);

/// Name, layers, width and heads of the sizes of GPT-2.
const GPT2: [(&str, [usize; 3]); 4] = [
    ("distilgpt2", [6, 768, 12]),
    ("gpt2", [12, 768, 12]),
    ("gpt2-medium", [24, 1024, 16]),
    ("gpt2-large", [36, 1280, 20]),
];

impl Shape {
    /// The names of the shapes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        GPT2.iter().map(|(name, _)| *name).chain(["llama-1b"])
    }

    /// The shape of this name: one of GPT-2's sizes, or `llama-1b`, that of Llama 3.2 1B.
    pub fn named(name: &str) -> Option<Self> {
        if let Some((_, [layers, width, heads])) = GPT2.iter().find(|(known, _)| *known == name) {
            return Some(Self(json!({
                "model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads, "n_positions": 1024,
                "vocab_size": 50257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
            })));
        }
        (name == "llama-1b").then(|| {
            Self(json!({
                "model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048, "intermediate_size": 8192,
                "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128_256,
                "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "hidden_act": "silu",
                "tie_word_embeddings": true, "rope_theta": 500_000.0,
                "rope_scaling": {
                    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                },
            }))
        })
    }

    /// Writes a model of this shape in F32 into a directory. Its weights are random numbers that
    /// follow from the seed, near a normal distribution; biases are zeros, weights of norms ones.
    ///
    /// # Errors
    /// [`crate::Error::Unwritten`] if a file cannot be written.
    pub fn write(&self, seed: u64, folder: &Path) -> Result<()> {
        let text = self.0.to_string();
        let config = Config::parse(&folder.join(CONFIG), &text)?;
        let tensors = tensors(&config);
        write(folder, &text, Dtype::F32, &tensors, |number, first, out| {
            let (name, shape) = &tensors[number];
            match shape.len() {
                1 => out.fill(if name.ends_with("bias") { 0.0 } else { 1.0 }),
                _ => random(seed, (number as u64) << 40 | first as u64, out),
            }
            Ok(())
        })
    }
}

/// The tensors of a model without experts.
fn tensors(config: &Config) -> Vec<Named> {
    let (names, width, mut all) = (config.names, config.width, Vec::new());
    let mut add = |name: &str, shape: &[usize], bias: bool| {
        all.push((format!("{name}.weight"), shape.to_vec()));
        if bias {
            let outputs = if names.rows_are_inputs { shape.last() } else { shape.first() };
            all.push((format!("{name}.bias"), outputs.into_iter().copied().collect()));
        }
    };
    let prefixed = |name: &str| format!("{}{name}", names.prefixes[0]);
    let matrix = |outputs, inputs| if names.rows_are_inputs { [inputs, outputs] } else { [outputs, inputs] };
    add(&prefixed(names.embedding), &[config.vocabulary, width], false);
    if let Some(positions) = names.positions {
        add(&prefixed(positions), &[config.context, width], false);
    }
    let (queries, kv, hidden, biases) = (config.query_width(), config.kv_width(), config.feed_forward, config.biases);
    for layer in 0..config.layers {
        let name = |name: &str| prefixed(&names.layer(layer, name));
        add(&name(names.attention_norm), &[width], config.norm.centred);
        match &names.attention {
            Attention::Fused(all) => add(&name(all), &matrix(queries + 2 * kv, width), biases.inputs),
            Attention::Apart(apart) => {
                for (part, outputs) in apart.iter().zip([queries, kv, kv]) {
                    add(&name(part), &matrix(outputs, width), biases.inputs);
                }
            }
        }
        add(&name(names.output), &matrix(width, queries), biases.output);
        add(&name(names.feed_forward_norm), &[width], config.norm.centred);
        for part in names.plain.gate.iter().chain([&names.plain.up]) {
            add(&name(part), &matrix(hidden, width), biases.feed_forward);
        }
        add(&name(names.plain.down), &matrix(width, hidden), biases.feed_forward);
    }
    add(&prefixed(names.norm), &[width], config.norm.centred);
    if !config.tied {
        add(names.head, &[config.vocabulary, width], false);
    }
    all
}

/// Random numbers from `first` on, each the sum of four uniform ones.
fn random(seed: u64, first: u64, out: &mut [f32]) {
    // The variance of a number from 0 to 65535 is 2³² / 12, that of four of them 2³² / 3.
    let scale = DEVIATION * 3f32.sqrt() / 65536.0;
    // SplitMix64 (Steele et al., 2014).
    let mix = |number: u64| {
        let bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    };
    let seed = mix(seed);
    for (i, out) in (first..).zip(out) {
        let bits = mix(seed ^ i);
        let sum: u64 = [0, 16, 32, 48].iter().map(|shift| bits >> shift & 0xffff).sum();
        *out = (sum as f32 - 131_070.0) * scale;
    }
}

#[cfg(test)]
mod tests {
    use checkpoint::Model;
    use codec_api::Registry;
    use codecs as _;

    use super::*;
    use crate::speed::{Lengths, measure, write_as};
    use crate::{Decoder, Options};

    fn open(folder: &Path) -> (Model, Decoder) {
        let model = Model::open(folder, &[], &Registry::linked().unwrap()).unwrap();
        let decoder = Decoder::open(&model, Options::new(2)).unwrap();
        (model, decoder)
    }

    #[test]
    fn random_models_have_all_tensors_and_run() {
        let gpt2 = json!({
            "model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 10, "vocab_size": 50,
        });
        let llama = json!({
            "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50, "hidden_act": "silu",
            "max_position_embeddings": 10, "attention_bias": true, "mlp_bias": true,
        });
        // A token reads one row of the positions, or of the embedding that is not the head.
        for (shape, idle) in [(gpt2, 9 * 32), (llama, 49 * 32)] {
            let place = tempfile::tempdir().unwrap();
            let [wide, narrow] = ["f32", "bf16"].map(|name| place.path().join(name));
            Shape(shape).write(1, &wide).unwrap();
            let (model, decoder) = open(&wide);
            assert_eq!(decoder.resident_bytes() - decoder.token_bytes(), 4 * idle);
            let speed = measure(&decoder, Lengths { prompt: 6, tokens: 4 }).unwrap();
            assert!(speed.prefill > 0.0 && speed.decode > 0.0);
            let error = measure(&decoder, Lengths { prompt: 6, tokens: 5 }).unwrap_err().to_string();
            assert!(error.contains("11 tokens is longer than the context of 10"), "{error}");
            assert!(measure(&decoder, Lengths { prompt: 6, tokens: 0 }).is_err());

            let Model::Dense(model) = model else { panic!("a dense model") };
            write_as(&model, Dtype::BF16, &narrow).unwrap();
            let (Model::Dense(copy), decoder) = open(&narrow) else { panic!("a dense model") };
            assert_eq!(copy.names().collect::<Vec<_>>(), model.names().collect::<Vec<_>>());
            assert_eq!(decoder.resident_bytes() - decoder.token_bytes(), 2 * idle);
        }
    }

    #[test]
    fn every_name_has_a_shape() {
        for name in Shape::names() {
            let shape = Shape::named(name).unwrap();
            let config = Config::parse(Path::new(CONFIG), &shape.0.to_string()).unwrap();
            let weights: usize = tensors(&config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            let millions = match name {
                "distilgpt2" => 82,
                "gpt2" => 124,
                "gpt2-medium" => 355,
                "gpt2-large" => 774,
                _ => 1236,
            };
            assert_eq!((weights + 500_000) / 1_000_000, millions, "{name}");
        }
        assert!(Shape::named("gpt3").is_none());
    }

    #[test]
    fn random_numbers_have_the_deviation_and_follow_from_the_seed() {
        let mut values = vec![0.0; 1 << 16];
        random(7, 0, &mut values);
        let of = |f: fn(f64) -> f64| values.iter().map(|v| f(f64::from(*v))).sum::<f64>() / values.len() as f64;
        let (mean, deviation) = (of(|v| v), of(|v| v * v).sqrt());
        assert!(mean.abs() < 5e-4 && (deviation / 0.02 - 1.0).abs() < 0.01, "{mean}, {deviation}");
        let (mut again, mut other) = (vec![0.0; 100], vec![0.0; 100]);
        random(7, 1000, &mut again);
        random(8, 1000, &mut other);
        assert_eq!(again, values[1000..1100]);
        assert!(other != again);
    }
}
