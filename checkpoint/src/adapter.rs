//! The configuration of a LoRA adapter, `adapter_config.json`, as PEFT writes it.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Map, Value};

use crate::error::Error;

/// Keys that change what an adapter computes and have no place here. An absent, empty or false
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
/// Ways to begin that leave the model as it is.
const BEGINNINGS: [&str; 3] = ["gaussian", "eva", "orthogonal"];
/// Keys that add more than products of two matrices, with the value that adds nothing.
const MORE: [(&str, &str); 4] =
    [("use_dora", "false"), ("lora_bias", "false"), ("bias", "\"none\""), ("modules_to_save", "[]")];

/// What scales the matrices of a LoRA adapter, and what it has beside them. A layer with matrices
/// `A` (`rank × inputs`) and `B` (`outputs × rank`) gets `scale·B·A` added to its weights.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdapterConfig {
    path: PathBuf,
    /// `lora_alpha`.
    alpha: f64,
    /// Whether the scale is `alpha/√rank` (`use_rslora`), not `alpha/rank`.
    root: bool,
    /// `alpha_pattern`: another alpha for layers whose names match.
    alphas: Vec<(Regex, f64)>,
    /// Keys of [`MORE`] with their values.
    more: Vec<(&'static str, String)>,
    /// Whether rows of the weights get lengths of their own (DoRA).
    pub dora: bool,
    /// Whether weights are `inputs × outputs`, where their shape does not tell (`fan_in_fan_out`).
    pub turned: bool,
    /// The layers that the configuration names, by the ends of their names; empty if it has a
    /// pattern.
    pub targets: Vec<String>,
}

impl AdapterConfig {
    /// Reads an `adapter_config.json`.
    ///
    /// # Errors
    /// [`Error::Adapter`] with the key that is missing, wrong or not supported; that of the file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::AdapterFile {
            path: path.to_owned(),
            reason: format!("{error}; the directory of an adapter has this file, as PEFT writes it"),
        })?;
        let map = serde_json::from_str(&text).map_err(|error| Error::AdapterFile {
            path: path.to_owned(),
            reason: format!("{error}; a JSON object is wanted"),
        })?;
        Self::parse(path, &map).map_err(|(key, reason)| Error::Adapter {
            path: path.to_owned(),
            key: key.to_owned(),
            reason,
        })
    }

    fn parse(path: &Path, map: &Map<String, Value>) -> Result<Self, (&'static str, String)> {
        let get = |key: &str| map.get(key).filter(|value| !value.is_null());
        let flag = |key: &'static str| match get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err((key, format!("`{other}` is not true or false"))),
        };
        if let Some(kind) = get("peft_type").filter(|kind| *kind != "LORA") {
            return Err(("peft_type", format!("{kind} is not supported, only `LORA`")));
        }
        for key in REFUSED {
            if let Some(value) = get(key).filter(|value| !is_harmless(value)) {
                return Err((key, format!("`{value}` changes what the adapter computes, and is not supported")));
            }
        }
        let begins_plainly = match get("init_lora_weights") {
            None | Some(Value::Bool(_)) => true,
            Some(value) => value.as_str().is_some_and(|name| BEGINNINGS.contains(&name)),
        };
        if let (Some(value), false) = (get("init_lora_weights"), begins_plainly) {
            let reason = format!(
                "`{value}` is not supported: such a beginning changed the base model too; convert the adapter with \
                 PEFT (`path_initial_model_for_weight_conversion`) first"
            );
            return Err(("init_lora_weights", reason));
        }
        let alpha = get("lora_alpha").ok_or(("lora_alpha", "it is missing".to_owned()))?;
        let is_used = |(key, plain): &(&'static str, &str)| {
            let value = get(key).filter(|value| !is_harmless(value))?.to_string();
            (value != *plain).then_some((*key, value))
        };
        Ok(Self {
            path: path.to_owned(),
            alpha: number(alpha).map_err(|reason| ("lora_alpha", reason))?,
            root: flag("use_rslora")?,
            alphas: alphas(get("alpha_pattern")).map_err(|reason| ("alpha_pattern", reason))?,
            more: MORE.iter().filter_map(is_used).collect(),
            dora: flag("use_dora")?,
            turned: flag("fan_in_fan_out")?,
            targets: targets(get("target_modules")).map_err(|reason| ("target_modules", reason))?,
        })
    }

    /// The factor of `B·A` of a layer with matrices of this rank.
    pub fn scale(&self, layer: &str, rank: usize) -> f64 {
        let own = self.alphas.iter().find(|(pattern, _)| pattern.is_match(layer)).map(|(_, alpha)| *alpha);
        own.unwrap_or(self.alpha) / if self.root { (rank as f64).sqrt() } else { rank as f64 }
    }

    /// Checks that the adapter is nothing but products of two matrices beside linear layers.
    ///
    /// # Errors
    /// [`Error::Adapter`] with the key that says more.
    pub fn require_products(&self) -> Result<(), Error> {
        let Some((key, value)) = self.more.first() else { return Ok(()) };
        let reason = format!(
            "`{value}` is not supported beside weights in use; `netweight lora merge` writes the model with such an \
             adapter"
        );
        Err(Error::Adapter { path: self.path.clone(), key: (*key).to_owned(), reason })
    }
}

fn is_harmless(value: &Value) -> bool {
    match value {
        Value::Bool(false) => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn number(value: &Value) -> Result<f64, String> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("`{value}` is not a number"))
}

/// The patterns, which match the end of a layer's name from a dot on.
fn alphas(value: Option<&Value>) -> Result<Vec<(Regex, f64)>, String> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let Value::Object(map) = value else { return Err("it is not an object".to_owned()) };
    let pair = |(key, alpha): (&String, &Value)| {
        let pattern = Regex::new(&format!("^(?:.*\\.)?(?:{key})$"));
        let pattern = pattern.map_err(|e| format!("`{key}` is no regular expression: {e}"))?;
        Ok((pattern, number(alpha)?))
    };
    map.iter().map(pair).collect()
}

/// Names of layers. A pattern, or all linear layers: the tensors tell which.
fn targets(value: Option<&Value>) -> Result<Vec<String>, String> {
    let Some(Value::Array(all)) = value else { return Ok(Vec::new()) };
    let name = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("`{value}` is not a text"));
    all.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(change: &Value) -> Result<AdapterConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adapter_config.json");
        let mut all = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["q_proj"]});
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        std::fs::write(&path, all.to_string()).unwrap();
        AdapterConfig::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn scales_follow_roots_and_patterns() {
        let plain = read(&json!({})).unwrap();
        assert_eq!((plain.scale("model.q_proj", 4), &*plain.targets), (1.5, &["q_proj".to_owned()][..]));
        assert_eq!(read(&json!({"use_rslora": true})).unwrap().scale("q", 4), 3.0);
        let patterns =
            json!({"alpha_pattern": {"layers\\.[01]\\.q_proj": 8, "v_proj": 2}, "target_modules": "all-linear"});
        let patterned = read(&patterns).unwrap();
        assert!(patterned.targets.is_empty());
        let scale = |layer: &str| patterned.scale(layer, 2);
        assert_eq!([scale("model.layers.1.q_proj"), scale("v_proj"), scale("a.v_proj")], [4.0, 1.0, 1.0]);
        assert_eq!([scale("model.layers.2.q_proj"), scale("my_v_proj")], [3.0, 3.0], "not the end of a name");
    }

    #[test]
    fn what_changes_the_result_is_refused_by_its_key() {
        for (change, parts) in [
            (json!({"peft_type": "LOHA"}), ["`peft_type`", "only `LORA`"]),
            (json!({"lora_alpha": null}), ["`lora_alpha`", "missing"]),
            (json!({"lora_alpha": "x"}), ["`lora_alpha`", "not a number"]),
            (json!({"use_rslora": 1}), ["`use_rslora`", "true or false"]),
            (json!({"layer_replication": [[0, 4]]}), ["`layer_replication`", "[[0,4]]"]),
            (json!({"target_parameters": ["x"]}), ["`target_parameters`", "not supported"]),
            (json!({"init_lora_weights": "pissa_niter_4"}), ["`init_lora_weights`", "changed the base model"]),
            (json!({"alpha_pattern": {"q(": 1}}), ["`alpha_pattern`", "regular expression"]),
            (json!({"alpha_pattern": {"q": "1"}}), ["`alpha_pattern`", "not a number"]),
        ] {
            let error = read(&change).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        let harmless = json!({"layer_replication": null, "target_parameters": [], "use_qalora": false,
            "init_lora_weights": "gaussian", "bias": "none", "modules_to_save": null, "use_dora": false});
        read(&harmless).unwrap().require_products().unwrap();
    }

    #[test]
    fn more_than_products_is_told_by_its_key() {
        for (key, value) in [
            ("use_dora", json!(true)),
            ("lora_bias", json!(true)),
            ("bias", json!("all")),
            ("modules_to_save", json!(["lm_head"])),
        ] {
            let mut change = Map::new();
            change.insert(key.to_owned(), value.clone());
            let error = read(&change.into()).unwrap().require_products().unwrap_err().to_string();
            assert!(error.contains(&format!("key `{key}`: `{value}` is not supported")), "{error}");
        }
    }
}
