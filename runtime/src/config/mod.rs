//! What a model computes, as data. The families differ in norms, positions, feed-forward networks
//! and names of tensors; [`Config`] describes one model, and the decoder runs any description.

mod gpt2;
mod keys;
mod llama;
mod names;
mod rope;

use std::path::Path;

pub(crate) use names::{Attention, Experts as ExpertNames, Names, Plain, STACKED};
pub(crate) use rope::Rope;

use crate::error::{Error, Result};
use keys::Keys;

/// The largest extent of a model that a configuration may state. It is far above any model, and
/// keeps the products of two extents small.
const MOST: usize = 1 << 28;

/// The description of a decoder.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of tokens.
    pub vocabulary: usize,
    /// Largest number of positions.
    pub context: usize,
    /// Values of a token between the layers.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; each belongs to as many heads of the queries.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_width: usize,
    /// The token that begins a text, if the configuration has one.
    pub begin: Option<u32>,
    /// The tokens that end a text.
    pub end: Vec<u32>,
    pub(crate) norm: Norm,
    pub(crate) rope: Option<Rope>,
    pub(crate) activation: Activation,
    pub(crate) feed_forward: usize,
    pub(crate) experts: Option<Experts>,
    /// For each layer, whether it has experts; empty if none has.
    pub(crate) expert_layers: Vec<bool>,
    /// For each layer: positions that a token attends to, itself included.
    pub(crate) windows: Vec<Option<usize>>,
    pub(crate) biases: Biases,
    /// Whether queries and keys are normalised, head by head.
    pub(crate) head_norms: bool,
    /// Whether the output head is the embedding.
    pub(crate) tied: bool,
    pub(crate) names: &'static Names,
}

/// A normalisation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    /// Layer norm with mean and bias; otherwise RMS norm.
    pub(crate) centred: bool,
    pub(crate) epsilon: f32,
}

/// The function of a feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x / (1 + e⁻ˣ)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// With the error function.
    Gelu,
    /// Approximated with a hyperbolic tangent.
    GeluTanh,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Biases {
    pub(crate) inputs: bool,
    pub(crate) output: bool,
    pub(crate) feed_forward: bool,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Experts {
    pub(crate) count: usize,
    /// Experts that a token uses.
    pub(crate) used: usize,
    pub(crate) feed_forward: usize,
    /// Whether the weights of the used experts are scaled to a sum of 1.
    pub(crate) normalised: bool,
}

impl Config {
    /// Reads the `config.json` of a model in Hugging Face layout.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read; [`Error::Config`] with the key that is missing, wrong
    /// or not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::beside(path, &error))?;
        Self::parse(path, &text)
    }

    /// As [`Self::read`], for the text of a file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        let keys = Keys::parse(path, text)?;
        keys.absent("quantization_config", "weights that another program has quantised are not read")?;
        let family = keys.text("model_type")?;
        let config = match family.as_str() {
            "gpt2" => gpt2::read(&keys),
            "llama" | "mistral" | "mixtral" | "qwen2" | "qwen3" | "qwen3_moe" => llama::read(&keys, &family),
            other => {
                let known = "gpt2, llama, mistral, mixtral, qwen2, qwen3, qwen3_moe";
                keys.refuse("model_type", format!("`{other}` is not supported; supported are {known}"))
            }
        }?;
        config.check(&keys)?;
        Ok(config)
    }

    fn check(&self, keys: &Keys<'_>) -> Result<()> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        if !heads.is_multiple_of(kv_heads) {
            let reason = format!("{heads} heads of the queries cannot share {kv_heads} heads of keys and values");
            return keys.refuse("num_key_value_heads", reason);
        }
        if self.rope.is_some() && !self.head_width.is_multiple_of(2) {
            return keys.refuse("head_dim", format!("{} is odd, but rotary positions need pairs", self.head_width));
        }
        if let Some(experts) = self.experts.as_ref().filter(|experts| experts.used > experts.count) {
            let reason = format!("{} experts for each token, but there are {}", experts.used, experts.count);
            return keys.refuse("num_experts_per_tok", reason);
        }
        Ok(())
    }

    /// Values of a token's queries.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Values of a token's keys, and of its values.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }
}

impl Activation {
    /// The function of this name in configurations.
    fn read(keys: &Keys<'_>, key: &str) -> Result<Self> {
        match keys.text(key)?.as_str() {
            "silu" | "swish" => Ok(Self::Silu),
            "relu" => Ok(Self::Relu),
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            other => {
                let known = "silu, relu, gelu, gelu_new, gelu_pytorch_tanh";
                keys.refuse(key, format!("the function `{other}` is not supported; supported are {known}"))
            }
        }
    }
}
