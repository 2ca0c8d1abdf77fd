//! Recipes: mergekit's YAML with the meaning of its version 0.1.5, or the same keys in TOML.

mod methods;
mod setting;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

pub(crate) use methods::{Family, Known};
pub(crate) use setting::{Scalar, Setting};

/// The largest recipe that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Parameters by name; [`Setting`] reads the values.
pub(crate) type Parameters = BTreeMap<String, Value>;

/// A recipe as it is written. Keys that have no meaning are refused.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The method.
    pub merge_method: String,
    /// Whole models; or `slices`.
    pub(crate) models: Option<Vec<Entry>>,
    /// Layers of models.
    pub(crate) slices: Option<Vec<Slice>>,
    /// Parts of a model by name; only the one of language models is supported.
    pub(crate) modules: Option<BTreeMap<String, Module>>,
    pub(crate) base_model: Option<ModelReference>,
    /// The dtype of the output, unless `out_dtype` is there.
    pub(crate) dtype: Option<String>,
    pub(crate) out_dtype: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) parameters: Parameters,
    pub(crate) tokenizer_source: Option<Value>,
    pub(crate) tokenizer: Option<Value>,
    pub(crate) chat_template: Option<String>,
}

/// A part of a model: whole models, or layers of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Module {
    pub(crate) models: Option<Vec<Entry>>,
    pub(crate) slices: Option<Vec<Slice>>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) parameters: Parameters,
}

/// A model in the list of models.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) model: ModelReference,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) parameters: Parameters,
}

/// Layers of the output, made of as many layers of each source.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slice {
    pub(crate) sources: Vec<SliceSource>,
    pub(crate) base_model: Option<ModelReference>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) parameters: Parameters,
}

/// A source of a slice: the layers from the first number up to the second one, without it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SliceSource {
    pub(crate) model: ModelReference,
    pub(crate) layer_range: [usize; 2],
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) parameters: Parameters,
}

/// A model by its path, and perhaps an adapter: `PATH` or `PATH+ADAPTER`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "Value", into = "String")]
pub struct ModelReference {
    /// The model.
    pub path: PathBuf,
    /// A LoRA adapter that is merged into it first.
    pub lora: Option<PathBuf>,
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.lora.as_ref().map_or(Ok(()), |lora| write!(f, "+{}", lora.display()))
    }
}

impl From<ModelReference> for String {
    fn from(model: ModelReference) -> Self {
        model.to_string()
    }
}

impl TryFrom<Value> for ModelReference {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let (path, lora) = match &value {
            Value::String(text) => match text.split_once('+') {
                // A path that exists is taken as it is.
                Some((path, lora)) if !Path::new(text).exists() => (path.to_owned(), Some(lora.to_owned())),
                _ => (text.clone(), None),
            },
            Value::Object(map) => {
                if let Some(key) = map.keys().find(|key| !["model", "lora"].contains(&key.as_str())) {
                    return Err(format!("a model has the keys `model` and `lora`; `{key}` is not supported"));
                }
                let text = |key: &str| map.get(key).filter(|value| !value.is_null()).map(named).transpose();
                (text("model")?.ok_or("the key `model`, a path, is missing")?, text("lora")?)
            }
            _ => return Err("a model is a path, `PATH+ADAPTER`, or an object with `model` and `lora`".to_owned()),
        };
        if path.is_empty() || lora.as_ref().is_some_and(String::is_empty) {
            return Err("the path of a model is empty".to_owned());
        }
        Ok(Self { path: path.into(), lora: lora.map(PathBuf::from) })
    }
}

/// A path, also in an object `{path: …}`.
fn named(value: &Value) -> Result<String, String> {
    let text = value.as_str().or_else(|| value.get("path").and_then(Value::as_str));
    text.map(str::to_owned).ok_or_else(|| format!("`{value}` is no path"))
}

/// `parameters:` without a value is empty.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Parameters, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Recipe {
    /// Reads a recipe: TOML if the name ends with `.toml`, otherwise YAML.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the place in the text.
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |reason: String| Error::Recipe { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(fail(format!("it has {size} bytes; a recipe has at most {MAX_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let toml = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml"));
        let read = if toml { Self::from_toml(&text) } else { Self::from_yaml(&text) };
        read.map_err(fail)
    }

    /// The model with this adapter, and nothing else.
    pub fn of_adapter(model: &Path, adapter: &Path) -> Self {
        Self::of_reference(ModelReference { path: model.to_owned(), lora: Some(adapter.to_owned()) })
    }

    /// The model as it is.
    pub fn of_model(model: &Path) -> Self {
        Self::of_reference(ModelReference { path: model.to_owned(), lora: None })
    }

    fn of_reference(model: ModelReference) -> Self {
        Self {
            merge_method: "passthrough".to_owned(),
            models: Some(vec![Entry { model, parameters: Parameters::new() }]),
            slices: None,
            modules: None,
            base_model: None,
            dtype: None,
            out_dtype: None,
            parameters: Parameters::new(),
            tokenizer_source: None,
            tokenizer: None,
            chat_template: None,
        }
    }

    /// Reads YAML.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn from_yaml(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| {
            // Behind the first line, the error shows the place in the text.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        })
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml_edit::de::from_str(text).map_err(|error| {
            // Between the first line and the last one, the error shows the place in the text.
            let text = error.to_string();
            let mut lines = text.lines();
            let first = lines.next().unwrap_or_default();
            lines.next_back().map_or_else(|| first.to_owned(), |last| format!("{first}: {last}"))
        })
    }
}
