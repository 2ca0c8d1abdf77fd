//! The files of a tokenizer.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// The files that belong to a tokenizer.
pub(crate) const TOKENIZER_FILES: [&str; 13] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "chat_template.json",
    "tekken.json",
];
/// The largest of them that is copied, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a file that is at most as large as those of tokenizers.
fn read(path: &Path) -> Result<Vec<u8>> {
    let fail = |reason: String| Error::file(path, reason);
    let size = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(fail(format!("it has {size} bytes; at most {MAX_BYTES} are read")));
    }
    std::fs::read(path).map_err(|e| fail(e.to_string()))
}

/// A JSON object.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    serde_json::from_slice(&read(path)?).map_err(|e| Error::file(path, format!("{e}; a JSON object is wanted")))
}

/// The files of the tokenizer in a directory, by name.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn read_files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let there = TOKENIZER_FILES.into_iter().filter(|name| directory.join(name).is_file());
    there.map(|name| Ok((name.to_owned(), read(&directory.join(name))?))).collect()
}

/// Replaces the parts of the files that list tokens, where they change.
///
/// # Errors
/// [`Error::File`] for a file that is no JSON object.
pub(super) fn write(files: &mut BTreeMap<String, Vec<u8>>, directory: &Path, out: &Tokenizer) -> Result<()> {
    let before = Tokenizer::read(directory)?;
    if before.ids == out.ids && before.added() == out.added() {
        return Ok(());
    }
    files.insert("tokenizer.json".to_owned(), out.text().into_bytes());
    if before.ids.keys().any(|text| !out.ids.contains_key(text)) {
        // Other lists of the same tokens, which the tokenizer has left behind.
        for name in ["vocab.json", "merges.txt", "vocab.txt"] {
            files.remove(name);
        }
    }
    let object = |name: &str| -> Result<Option<Map<String, Value>>> {
        let path = directory.join(name);
        if path.is_file() { read_object(&path).map(Some) } else { Ok(None) }
    };
    if let Some(mut map) = object("added_tokens.json")? {
        map.retain(|text, _| out.ids.contains_key(text));
        for entry in out.added() {
            if let (Some(text), Some(id)) = (entry["content"].as_str(), entry["id"].as_u64()) {
                let of_model = before.ids.get(text).is_some_and(|_| !map.contains_key(text));
                if !of_model {
                    map.insert(text.to_owned(), id.into());
                }
            }
        }
        files.insert("added_tokens.json".to_owned(), text(&map));
    }
    if let Some(mut map) = object("tokenizer_config.json")? {
        if map.contains_key("added_tokens_decoder") {
            let decoder: Map<String, Value> = out.added().iter().map(by_id).collect();
            map.insert("added_tokens_decoder".to_owned(), decoder.into());
        }
        files.insert("tokenizer_config.json".to_owned(), text(&map));
    }
    Ok(())
}

fn by_id(entry: &Value) -> (String, Value) {
    let keys = ["content", "lstrip", "normalized", "rstrip", "single_word", "special"];
    let entry_of = keys.into_iter().map(|key| (key.to_owned(), entry.get(key).cloned().unwrap_or(json!(false))));
    (entry["id"].to_string(), Value::Object(entry_of.collect()))
}

/// A JSON object as a file.
pub(crate) fn text(map: &Map<String, Value>) -> Vec<u8> {
    (serde_json::to_string_pretty(map).unwrap_or_default() + "\n").into_bytes()
}
