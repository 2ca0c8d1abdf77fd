//! The tokens of a model, from its `tokenizer.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// The largest tokenizer that is read, in bytes: ten times the usual ones.
const MAX_BYTES: u64 = 256 << 20;
/// The largest id of a token.
const MAX_ID: u64 = 1 << 28;
/// Keys of a tokenizer that decide what stands for a text.
const SPLITS: [&str; 3] = ["normalizer", "pre_tokenizer", "decoder"];

/// A tokenizer.
#[derive(Clone, Debug)]
pub(super) struct Tokenizer {
    pub(super) path: PathBuf,
    json: Map<String, Value>,
    /// The id of each token.
    pub(super) ids: HashMap<String, u32>,
    /// The smallest number above all ids.
    pub(super) end: u32,
    /// Number of tokens of `model.vocab`.
    of_model: u32,
}

impl Tokenizer {
    /// Reads the tokenizer in a model's directory.
    ///
    /// # Errors
    /// [`Error::File`] if there is none, or it is not what transformers writes.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let fail = |reason: String| Error::file(&path, reason);
        let absent = |e: std::io::Error| {
            fail(format!(
                "{e}; vocabularies are merged by this file, which `AutoTokenizer.from_pretrained(…).save_pretrained(…)` \
                 of transformers writes; a model with the vocabulary of another one may get a copy of its file"
            ))
        };
        let size = std::fs::metadata(&path).map_err(absent)?.len();
        if size > MAX_BYTES {
            return Err(fail(format!("it has {size} bytes; a tokenizer has at most {MAX_BYTES}")));
        }
        let text = std::fs::read_to_string(&path).map_err(absent)?;
        let json = serde_json::from_str(&text).map_err(|e| fail(format!("{e}; a JSON object is wanted")))?;
        Self::parse(path.clone(), json).map_err(fail)
    }

    /// # Errors
    /// What is wrong with the tokens.
    pub(super) fn parse(path: PathBuf, json: Map<String, Value>) -> Result<Self, String> {
        let mut tokens = Self { path, json, ids: HashMap::new(), end: 0, of_model: 0 };
        let mut ids = tokens.model_ids()?;
        tokens.of_model = ids.len() as u32;
        for (text, id) in tokens.added_ids()? {
            match ids.insert(text.clone(), id) {
                Some(other) if other != id => return Err(format!("the token {text:?} has the ids {other} and {id}")),
                _ => {}
            }
        }
        let distinct: HashSet<u32> = ids.values().copied().collect();
        if distinct.len() != ids.len() {
            return Err("two tokens have the same id".to_owned());
        }
        if ids.is_empty() {
            return Err("it has no tokens".to_owned());
        }
        tokens.end = ids.values().max().map_or(0, |last| last + 1);
        tokens.ids = ids;
        Ok(tokens)
    }

    /// The tokens of the key `model.vocab`: an object, or a list of pairs of token and score.
    fn model_ids(&self) -> Result<HashMap<String, u32>, String> {
        match self.model().and_then(|model| model.get("vocab")) {
            Some(Value::Object(map)) => map.iter().map(|(text, value)| Ok((text.clone(), id(value)?))).collect(),
            Some(Value::Array(list)) => {
                let text = |pair: &Value| pair.get(0).and_then(Value::as_str).map(str::to_owned);
                let one = |(i, pair): (usize, &Value)| Ok((text(pair).ok_or("a token is no text")?, id(&json!(i))?));
                let found: HashMap<String, u32> = list.iter().enumerate().map(one).collect::<Result<_, String>>()?;
                if found.len() == list.len() { Ok(found) } else { Err("a token is there twice".to_owned()) }
            }
            _ => Err("the key `model.vocab`, the tokens, is missing".to_owned()),
        }
    }

    fn added_ids(&self) -> Result<Vec<(String, u32)>, String> {
        self.added()
            .iter()
            .map(|entry| {
                let text = entry.get("content").and_then(Value::as_str);
                let wrong = || format!("`{entry}` is no added token");
                Ok((text.ok_or_else(wrong)?.to_owned(), id(entry.get("id").unwrap_or(&Value::Null))?))
            })
            .collect()
    }

    fn model(&self) -> Option<&Map<String, Value>> {
        self.json.get("model").and_then(Value::as_object)
    }

    /// The entries of `added_tokens`: tokens that are found in a text before it is split.
    pub(super) fn added(&self) -> &[Value] {
        self.json.get("added_tokens").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Ids and tokens, the ids ascending.
    pub(super) fn ordered(&self) -> Vec<(u32, &str)> {
        let mut all: Vec<(u32, &str)> = self.ids.iter().map(|(text, id)| (*id, &**text)).collect();
        all.sort_unstable();
        all
    }

    /// Whether the next token has the id `end` for any software that reads the file: no id is left
    /// out, and those of added tokens go on behind those of the model.
    fn can_grow(&self) -> bool {
        let added = self.added().iter().filter_map(|entry| entry.get("id")?.as_u64());
        let last = added.filter(|id| *id >= u64::from(self.of_model)).max();
        let next = last.map_or(u64::from(self.of_model), |last| last + 1);
        self.ids.len() == self.end as usize && next == u64::from(self.end)
    }

    /// The pairs that a byte-pair encoding joins.
    pub(super) fn merges(&self) -> BTreeSet<(String, String)> {
        let list = self.model().and_then(|model| model.get("merges")).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(pair).collect()
    }

    /// The keys in which two tokenizers differ, so that equal tokens may stand for different texts.
    pub(super) fn unlike(&self, other: &Self) -> Vec<&'static str> {
        let kind = |tokens: &Self| tokens.model().and_then(|model| model.get("type").cloned());
        let mut keys: Vec<&'static str> =
            SPLITS.into_iter().filter(|key| self.json.get(*key) != other.json.get(*key)).collect();
        if kind(self) != kind(other) {
            keys.push("model.type");
        }
        keys
    }

    /// Removes the tokens from this id on, and the merges that have one of them.
    ///
    /// # Errors
    /// If the tokens are not those of a byte-pair encoding.
    pub(super) fn cut(&mut self, end: u32) -> Result<(), String> {
        let kept = |entry: &Value| entry.get("id").and_then(Value::as_u64).is_some_and(|id| id < u64::from(end));
        let dropped: HashSet<String> =
            self.ids.iter().filter(|(_, id)| **id >= end).map(|(text, _)| text.clone()).collect();
        if let Some(Value::Array(added)) = self.json.get_mut("added_tokens") {
            added.retain(kept);
        }
        let Some(Value::Object(model)) = self.json.get_mut("model") else { return Ok(()) };
        let of_model = match model.get("vocab") {
            Some(Value::Object(vocab)) => vocab.keys().any(|text| dropped.contains(text)),
            Some(Value::Array(list)) => list.len() > end as usize,
            _ => false,
        };
        if of_model {
            let kind = model.get("type").and_then(Value::as_str).unwrap_or("BPE").to_owned();
            let Some(Value::Object(vocab)) = model.get_mut("vocab").filter(|_| kind == "BPE") else {
                return Err(format!(
                    "it has tokens from {end} on, for which the model has no rows, and those of a tokenizer of the type \
                     `{kind}` cannot be taken out; give the model as many rows"
                ));
            };
            vocab.retain(|text, _| !dropped.contains(text));
            let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(Value::Array(merges)) = model.get_mut("merges") {
                merges.retain(|merge| {
                    let Some((a, b)) = pair(merge) else { return true };
                    let made = format!("{a}{}", b.strip_prefix(&prefix).unwrap_or(&b));
                    ![a, b, made].iter().any(|text| dropped.contains(text))
                });
            }
        }
        self.ids.retain(|_, id| *id < end);
        self.end = self.ids.values().max().map_or(0, |last| last + 1);
        self.of_model = self.model_ids()?.len() as u32;
        Ok(())
    }

    /// Adds entries of `added_tokens`, with the next ids for new tokens. An entry that is there is
    /// kept.
    ///
    /// # Errors
    /// If a new token has no id that all software agrees on.
    pub(super) fn add(&mut self, entries: &[Value]) -> Result<(), String> {
        let text = |entry: &Value| entry.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !self.can_grow() && entries.iter().any(|entry| !self.ids.contains_key(&text(entry))) {
            return Err(format!(
                "{} tokens have ids below {}: some ids are left out, so that a token cannot be added behind",
                self.ids.len(),
                self.end
            ));
        }
        let mut all: BTreeMap<u64, Value> = BTreeMap::new();
        for entry in self.added() {
            all.insert(entry.get("id").and_then(Value::as_u64).unwrap_or_default(), entry.clone());
        }
        for entry in entries {
            let id = *self.ids.entry(text(entry)).or_insert(self.end);
            self.end = self.end.max(id + 1);
            let mut entry = entry.clone();
            entry["id"] = id.into();
            all.entry(u64::from(id)).or_insert(entry);
        }
        self.json.insert("added_tokens".to_owned(), all.into_values().collect());
        Ok(())
    }

    /// The text of the file.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(&self.json).unwrap_or_default() + "\n"
    }
}

/// An added token that is an ordinary part of a text.
pub(super) fn plain(text: &str) -> Value {
    json!({
        "id": 0, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true,
        "special": false
    })
}

fn id(value: &Value) -> Result<u32, String> {
    let id = value.as_u64().filter(|id| *id < MAX_ID);
    id.map(|id| id as u32).ok_or_else(|| format!("`{value}` is no id of a token"))
}

/// A merge: `"a b"`, or `["a", "b"]`.
fn pair(merge: &Value) -> Option<(String, String)> {
    match merge {
        Value::String(text) => text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        Value::Array(both) => Some((both.first()?.as_str()?.to_owned(), both.get(1)?.as_str()?.to_owned())),
        _ => None,
    }
}
