//! `adapter_config.json`, as PEFT writes it.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Keys that change what an adapter computes, and that are not merged; an absent, empty or false
/// value is harmless.
const REFUSED: [&str; 8] = [
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "use_bdlora",
    "trainable_token_indices",
    "target_parameters",
    "megatron_config",
    "use_qalora",
];
/// Initialisations that change the base model too.
const CHANGED_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// What scales the matrices of an adapter.
#[derive(Debug)]
pub(super) struct Config {
    alpha: f64,
    root: bool,
    alphas: Vec<(Regex, f64)>,
    pub(super) dora: bool,
    /// Whether weights are `inputs × outputs`, where their shape does not tell.
    pub(super) turned: bool,
}

impl Config {
    /// # Errors
    /// [`Error::File`] with the key that is wrong or not supported.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let fail = |reason: String| Error::file(path, reason);
        let text =
            std::fs::read_to_string(path).map_err(|e| fail(format!("{e}; the directory of an adapter has it")))?;
        let map: Map<String, Value> = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
        let kind = map.get("peft_type").and_then(Value::as_str).unwrap_or("LORA");
        if kind != "LORA" {
            return Err(fail(format!("`peft_type` is `{kind}`; only `LORA` is merged")));
        }
        if let Some(key) = REFUSED.into_iter().find(|key| map.get(*key).is_some_and(|value| !is_harmless(value))) {
            return Err(fail(format!("`{key}` changes what the adapter computes, and is not supported")));
        }
        let init = map.get("init_lora_weights").and_then(Value::as_str).unwrap_or("").replace('-', "_").to_lowercase();
        if CHANGED_BASE.iter().any(|name| init.starts_with(name)) {
            return Err(fail(format!(
                "`init_lora_weights` is `{init}`, which changed the base model too; convert the adapter with PEFT \
                 (`path_initial_model_for_weight_conversion`) first"
            )));
        }
        let alpha = map.get("lora_alpha").and_then(Value::as_f64).filter(|alpha| alpha.is_finite());
        Ok(Self {
            alpha: alpha.ok_or_else(|| fail("`lora_alpha`, a number, is missing".to_owned()))?,
            root: map.get("use_rslora") == Some(&Value::Bool(true)),
            alphas: alphas(map.get("alpha_pattern")).map_err(fail)?,
            dora: map.get("use_dora") == Some(&Value::Bool(true)),
            turned: map.get("fan_in_fan_out") == Some(&Value::Bool(true)),
        })
    }

    /// The factor of `B·A` of a module with matrices of this rank.
    pub(super) fn scale(&self, module: &str, rank: usize) -> f64 {
        let own = self.alphas.iter().find(|(pattern, _)| pattern.is_match(module)).map(|(_, alpha)| *alpha);
        own.unwrap_or(self.alpha) / if self.root { (rank as f64).sqrt() } else { rank as f64 }
    }
}

fn is_harmless(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The patterns, which match the end of a module's path from a dot on.
fn alphas(value: Option<&Value>) -> Result<Vec<(Regex, f64)>, String> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let Value::Object(map) = value else { return Err("`alpha_pattern` is no object".to_owned()) };
    let pair = |(key, alpha): (&String, &Value)| {
        let pattern = Regex::new(&format!("^(?:.*\\.)?(?:{key})$"));
        let pattern = pattern.map_err(|e| format!("`alpha_pattern`, `{key}`: {e}"))?;
        Ok((pattern, alpha.as_f64().ok_or_else(|| format!("`alpha_pattern`, `{key}`: a number is wanted"))?))
    };
    map.iter().map(pair).collect()
}
