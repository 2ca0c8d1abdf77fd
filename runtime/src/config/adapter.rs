//! The configuration of a LoRA adapter, as PEFT writes it.

use std::path::Path;

use serde_json::{Value, json};

use super::keys::Keys;
use crate::error::{Error, Result};

/// Keys that change what an adapter computes, and that have no place here, with the values that
/// change nothing. An absent or empty value is as good.
const REFUSED: [(&str, &[&str]); 11] = [
    ("use_dora", &["false"]),
    ("lora_bias", &["false"]),
    ("bias", &["\"none\""]),
    ("modules_to_save", &[]),
    ("layer_replication", &[]),
    ("target_parameters", &[]),
    ("trainable_token_indices", &[]),
    ("alora_invocation_tokens", &[]),
    ("use_bdlora", &["false"]),
    ("arrow_config", &[]),
    // Other ways to begin change the weights of the model too.
    ("init_lora_weights", &["true", "false", "\"gaussian\"", "\"eva\"", "\"orthogonal\""]),
];

/// What an adapter adds to a linear layer.
#[derive(Clone, Debug)]
pub(crate) struct AdapterConfig {
    /// `lora_alpha`.
    alpha: f64,
    /// Whether the scale is `alpha/√rank` (`use_rslora`), not `alpha/rank`.
    root: bool,
    /// Another alpha for layers with these ends of the name.
    alphas: Vec<(String, f64)>,
    /// The layers that the configuration names, if it lists names.
    pub(crate) targets: Vec<String>,
}

impl AdapterConfig {
    /// Reads an `adapter_config.json`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read; [`Error::Config`] with the key that is missing, wrong
    /// or not supported.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let reason = format!("{error}; the directory of an adapter has this file, as PEFT writes it");
            Error::file(path, reason)
        })?;
        let keys = Keys::parse(path, &text)?;
        let kind = keys.text("peft_type")?;
        if kind != "LORA" {
            return keys.refuse("peft_type", format!("`{kind}` is not supported, only `LORA`"));
        }
        for (key, harmless) in REFUSED {
            match keys.get(key) {
                Some(value) if !is_empty(value) && !harmless.contains(&&*value.to_string()) => {
                    return keys.refuse(key, format!("`{value}` is not supported"));
                }
                _ => {}
            }
        }
        let targets = match keys.get("target_modules") {
            Some(Value::Array(_)) => keys.texts("target_modules")?.unwrap_or_default(),
            // A regular expression, or all linear layers: the tensors tell which.
            _ => Vec::new(),
        };
        let root = keys.flag("use_rslora", false)?;
        Ok(Self { alpha: keys.number("lora_alpha")?, root, alphas: alphas(&keys)?, targets })
    }

    /// The factor of `B·(A·x)` in a layer with an adapter of this rank.
    pub(crate) fn scale(&self, layer: &str, rank: usize) -> f32 {
        let own = self.alphas.iter().find(|(end, _)| is_end(layer, end)).map(|(_, alpha)| *alpha);
        let rank = if self.root { (rank as f64).sqrt() } else { rank as f64 };
        (own.unwrap_or(self.alpha) / rank) as f32
    }
}

/// Whether a name is `end`, or ends with it behind a dot.
pub(crate) fn is_end(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn is_empty(value: &Value) -> bool {
    *value == json!([]) || *value == json!({})
}

/// `alpha_pattern`, whose keys are regular expressions for the ends of names; names are read.
fn alphas(keys: &Keys<'_>) -> Result<Vec<(String, f64)>> {
    let Some(pattern) = keys.get("alpha_pattern") else { return Ok(Vec::new()) };
    let Value::Object(map) = pattern else { return keys.refuse("alpha_pattern", "it is not an object") };
    let plain = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    let pair = |(key, value): (&String, &Value)| match value.as_f64() {
        Some(alpha) if plain(key) => Ok((key.clone(), alpha)),
        Some(_) => keys.refuse("alpha_pattern", format!("`{key}` is a regular expression; only names are supported")),
        None => keys.refuse("alpha_pattern", format!("`{value}` is not a number")),
    };
    map.iter().map(pair).collect()
}
