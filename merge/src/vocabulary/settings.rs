//! The keys `tokenizer_source` and `tokenizer` of a recipe.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::recipe::{ModelReference, Recipe};

/// The vocabulary of the output.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum From {
    /// That of the base.
    Base,
    /// That of the base, and behind it what the others have more.
    Union,
    /// That in this directory.
    Directory(PathBuf),
}

/// The row of a token, where it is not the model's own one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Embedding {
    Zero,
    /// That of this model.
    Model(ModelReference),
    /// That of another token.
    Token(ModelReference, Which),
}

/// A token of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Which {
    Id(u32),
    Text(String),
}

/// What a recipe says about a token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) embedding: Option<Embedding>,
    /// Also for models that have the token.
    pub(super) force: bool,
}

/// What a recipe says about the vocabulary.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The key that says it.
    pub(super) key: &'static str,
    pub(super) from: From,
    pub(super) tokens: Vec<Token>,
    pub(super) pad: usize,
}

impl Settings {
    /// `None` if the recipe has neither key.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub(super) fn of(recipe: &Recipe) -> Result<Option<Self>> {
        if let Some(value) = recipe.tokenizer_source.as_ref().filter(|value| !value.is_null()) {
            let key = "tokenizer_source";
            return Ok(Some(Self { key, from: from(key, value)?, tokens: Vec::new(), pad: 1 }));
        }
        let Some(value) = recipe.tokenizer.as_ref().filter(|value| !value.is_null()) else { return Ok(None) };
        let map = object("tokenizer", value, &["source", "tokens", "pad_to_multiple_of"])?;
        let given = |key: &str| map.get(key).filter(|value| !value.is_null());
        let pad = given("pad_to_multiple_of").map_or(Ok(1), |value| {
            let number = value.as_u64().filter(|number| (1..=1 << 20).contains(number));
            number
                .ok_or_else(|| Error::key("tokenizer.pad_to_multiple_of", format!("`{value}` is no multiple of rows")))
        })?;
        let tokens = match given("tokens") {
            None => Vec::new(),
            Some(Value::Object(map)) => map.iter().map(token).collect::<Result<_>>()?,
            Some(_) => return Err(Error::key("tokenizer.tokens", "an object with a key for each token is wanted")),
        };
        let from = given("source").map_or(Ok(From::Union), |value| from("tokenizer.source", value))?;
        Ok(Some(Self { key: "tokenizer", from, tokens, pad: pad as usize }))
    }
}

fn object<'v>(key: &str, value: &'v Value, known: &[&str]) -> Result<&'v Map<String, Value>> {
    let Value::Object(map) = value else { return Err(Error::key(key, "an object is wanted")) };
    match map.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Error::key(key, format!("`{name}` is unknown here; the keys are {}", known.join(", ")))),
        None => Ok(map),
    }
}

fn from(key: &str, value: &Value) -> Result<From> {
    match value.as_str() {
        Some("base") => Ok(From::Base),
        Some("union") => Ok(From::Union),
        text => {
            // Older recipes put `model:` before the path.
            let path = text.and_then(|text| text.strip_prefix("model:")).map(|path| Value::from(path.trim()));
            let model = reference(key, path.as_ref().unwrap_or(value))?;
            if model.lora.is_some() {
                return Err(Error::key(key, "a tokenizer comes from a model; leave the adapter out"));
            }
            Ok(From::Directory(model.path))
        }
    }
}

fn reference(key: &str, value: &Value) -> Result<ModelReference> {
    ModelReference::try_from(value.clone()).map_err(|reason| Error::key(key, reason))
}

fn token((text, value): (&String, &Value)) -> Result<Token> {
    let key = format!("tokenizer.tokens.{text}");
    let map = match value {
        Value::Null => &Map::new(),
        value => object(&key, value, &["source", "force"])?,
    };
    let force = match map.get("force") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(force)) => *force,
        Some(other) => return Err(Error::key(format!("{key}.force"), format!("`{other}` is neither true nor false"))),
    };
    let source = map.get("source").filter(|value| !value.is_null());
    let embedding = source.map(|value| embedding(&format!("{key}.source"), value)).transpose()?;
    if text.is_empty() {
        return Err(Error::key(key, "a token has a text"));
    }
    if force && embedding.is_none() {
        return Err(Error::key(key, "`force` replaces the rows of all models; say by what, with `source`"));
    }
    Ok(Token { text: text.clone(), embedding, force })
}

fn embedding(key: &str, value: &Value) -> Result<Embedding> {
    let Some(kind) = value.get("kind") else { return Ok(Embedding::Model(reference(key, value)?)) };
    match kind.as_str() {
        Some("zero") => object(key, value, &["kind"]).map(|_| Embedding::Zero),
        Some("model_token") => {
            let map = object(key, value, &["kind", "model", "token", "token_id"])?;
            let model = reference(key, map.get("model").unwrap_or(&Value::Null))?;
            let given = |name: &str| map.get(name).filter(|value| !value.is_null());
            let which = match (given("token"), given("token_id")) {
                (Some(Value::String(text)), None) => Some(Which::Text(text.clone())),
                (None, Some(id)) => id.as_u64().and_then(|id| u32::try_from(id).ok()).map(Which::Id),
                _ => None,
            };
            let which = which.ok_or_else(|| Error::key(key, "one of `token`, a text, and `token_id` is wanted"))?;
            Ok(Embedding::Token(model, which))
        }
        _ => Err(Error::key(key, format!("`{kind}` is unknown; the kinds are `zero` and `model_token`"))),
    }
}
