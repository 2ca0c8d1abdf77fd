//! GPT-2: layer norm, learned positions, one matrix for queries, keys and values, and weights whose
//! rows are inputs.

use serde_json::json;

use super::keys::Keys;
use super::names::GPT2;
use super::{Activation, Biases, Config, Norm};
use crate::error::Result;

pub(super) fn read(keys: &Keys<'_>) -> Result<Config> {
    for (key, value) in
        [("add_cross_attention", false), ("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)]
    {
        keys.only(key, &json!(value))?;
    }
    let (width, heads, layers) = (keys.count("n_embd")?, keys.count("n_head")?, keys.count("n_layer")?);
    if !width.is_multiple_of(heads) {
        return keys.refuse("n_head", format!("{heads} heads cannot share a width of {width}"));
    }
    let feed_forward = keys.maybe_count("n_inner")?.unwrap_or(4 * width);
    Ok(Config {
        vocabulary: keys.count("vocab_size")?,
        context: keys.count(keys.first(&["n_positions", "n_ctx"]))?,
        width,
        layers,
        heads,
        kv_heads: heads,
        head_width: width / heads,
        begin: keys.tokens("bos_token_id")?.first().copied(),
        end: keys.tokens("eos_token_id")?,
        norm: Norm { centred: true, epsilon: keys.maybe_number("layer_norm_epsilon")?.unwrap_or(1e-5) as f32 },
        rope: None,
        activation: match keys.get("activation_function") {
            Some(_) => Activation::read(keys, "activation_function")?,
            None => Activation::GeluTanh,
        },
        feed_forward,
        experts: None,
        expert_layers: Vec::new(),
        windows: vec![None; layers],
        biases: Biases { inputs: true, output: true, feed_forward: true },
        head_norms: false,
        tied: keys.flag("tie_word_embeddings", true)?,
        names: &GPT2,
    })
}
