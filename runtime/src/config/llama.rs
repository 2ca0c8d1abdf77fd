//! Llama and the families that follow it: RMS norm, rotary positions, a gated feed-forward network,
//! perhaps of several experts.

use serde_json::json;

use super::keys::Keys;
use super::names::{LLAMA, MIXTRAL, QWEN_MOE};
use super::{Activation, Biases, Config, Experts, Norm, Rope};
use crate::error::Result;

pub(super) fn read(keys: &Keys<'_>, family: &str) -> Result<Config> {
    for (key, value) in [("pretraining_tp", json!(1)), ("partial_rotary_factor", json!(1.0))] {
        keys.only(key, &value)?;
    }
    let (width, heads, layers) =
        (keys.count("hidden_size")?, keys.count("num_attention_heads")?, keys.count("num_hidden_layers")?);
    let head_width = match keys.maybe_count("head_dim")? {
        Some(width) => width,
        None if width.is_multiple_of(heads) => width / heads,
        None => return keys.refuse("num_attention_heads", format!("{heads} heads cannot share a width of {width}")),
    };
    let context = keys.count("max_position_embeddings")?;
    let attention_bias = keys.flag("attention_bias", false)?;
    let mixture = matches!(family, "mixtral" | "qwen3_moe");
    Ok(Config {
        vocabulary: keys.count("vocab_size")?,
        context,
        width,
        layers,
        heads,
        kv_heads: keys.maybe_count("num_key_value_heads")?.unwrap_or(heads),
        head_width,
        begin: keys.tokens("bos_token_id")?.first().copied(),
        end: keys.tokens("eos_token_id")?,
        norm: Norm { centred: false, epsilon: keys.maybe_number("rms_norm_eps")?.unwrap_or(1e-6) as f32 },
        rope: Some(Rope::read(keys, head_width, context)?),
        activation: Activation::read(keys, "hidden_act")?,
        feed_forward: keys.count("intermediate_size")?,
        experts: mixture.then(|| experts(keys, family)).transpose()?,
        expert_layers: if mixture { expert_layers(keys, layers)? } else { Vec::new() },
        windows: windows(keys, family, layers)?,
        // Qwen2 always has biases here, and has no key that says so.
        biases: Biases {
            inputs: attention_bias || family == "qwen2",
            output: attention_bias,
            feed_forward: keys.flag("mlp_bias", false)?,
        },
        head_norms: matches!(family, "qwen3" | "qwen3_moe"),
        tied: keys.flag("tie_word_embeddings", false)?,
        names: match family {
            "mixtral" => &MIXTRAL,
            "qwen3_moe" => &QWEN_MOE,
            _ => &LLAMA,
        },
    })
}

fn experts(keys: &Keys<'_>, family: &str) -> Result<Experts> {
    let mixtral = family == "mixtral";
    Ok(Experts {
        count: keys.count(keys.first(&["num_local_experts", "num_experts"]))?,
        used: keys.count("num_experts_per_tok")?,
        feed_forward: keys.count(if mixtral { "intermediate_size" } else { "moe_intermediate_size" })?,
        normalised: mixtral || keys.flag("norm_topk_prob", false)?,
    })
}

/// For each layer, whether it has experts.
fn expert_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>> {
    let dense = keys.counts("mlp_only_layers")?;
    let step = keys.maybe_count("decoder_sparse_step")?.unwrap_or(1);
    Ok((0..layers).map(|layer| !dense.contains(&layer) && (layer + 1).is_multiple_of(step)).collect())
}

/// The window of each layer.
fn windows(keys: &Keys<'_>, family: &str, layers: usize) -> Result<Vec<Option<usize>>> {
    // Qwen's models state a window even if they do not use it.
    let used = match family {
        "llama" => false,
        "mistral" | "mixtral" => true,
        _ => keys.flag("use_sliding_window", false)?,
    };
    let window = keys.maybe_count("sliding_window")?.filter(|_| used);
    if let Some(kinds) = keys.texts("layer_types")? {
        if kinds.len() != layers {
            return keys.refuse("layer_types", format!("it has {} entries for {layers} layers", kinds.len()));
        }
        let kind = |kind: &String| match kind.as_str() {
            "full_attention" => Ok(None),
            "sliding_attention" if window.is_some() => Ok(window),
            "sliding_attention" => keys.refuse("layer_types", "a layer has a window, but `sliding_window` is not used"),
            other => keys.refuse("layer_types", format!("`{other}` is not supported")),
        };
        return kinds.iter().map(kind).collect();
    }
    // Without a list, the first layers of Qwen's dense models have no window.
    let first =
        if matches!(family, "qwen2" | "qwen3") { keys.maybe_count("max_window_layers")?.unwrap_or(28) } else { 0 };
    Ok((0..layers).map(|layer| window.filter(|_| layer >= first)).collect())
}
