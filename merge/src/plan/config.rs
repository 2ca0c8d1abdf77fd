//! The configuration of the output.

use std::collections::BTreeMap;
use std::ops::Range;

use codec_api::Dtype;
use serde_json::{Map, Value};

use super::models::Opened;
use super::{OutputTensor, dtype_name};
use crate::error::Result;
use crate::vocabulary::{Vocabulary, read_object, text};

/// The key that counts the layers, in several architectures.
const LAYERS: [&str; 3] = ["num_hidden_layers", "n_layer", "num_layers"];

/// The donor's `config.json` for these tensors; `slices` has the layers of the donor that the
/// layers of the output are like. `None` if the donor has none.
///
/// # Errors
/// [`crate::Error::File`] if it is no JSON object.
pub(super) fn edited(
    donor: &Opened,
    tensors: &[OutputTensor],
    slices: Option<&[Range<usize>]>,
    notes: &mut Vec<String>,
) -> Result<Option<Value>> {
    let Some((directory, _)) = donor.directory() else { return Ok(None) };
    let path = directory.join("config.json");
    if !path.exists() {
        return Ok(None);
    }
    let mut config = read_object(&path)?;
    let head = tensors.iter().any(|tensor| tensor.name == "lm_head.weight");
    if head && config.get("tie_word_embeddings").is_none_or(|tie| tie == true) {
        config.insert("tie_word_embeddings".to_owned(), false.into());
        notes.push("`lm_head.weight` is written, so `tie_word_embeddings` becomes false".to_owned());
    }
    let rows = |end: &str| {
        tensors.iter().find(|tensor| tensor.name.ends_with(end)).and_then(|t| t.spec.shape().first().copied())
    };
    if let Some(rows) = rows("embed_tokens.weight").or_else(|| rows("wte.weight")) {
        let nested = config.get_mut("text_config").and_then(Value::as_object_mut);
        match nested.filter(|nested| nested.contains_key("vocab_size")) {
            Some(nested) => set_number(nested, "vocab_size", rows, notes),
            None => set_number(&mut config, "vocab_size", rows, notes),
        }
    }
    if let Some(slices) = slices {
        relayer(&mut config, slices, notes);
    }
    let widest = tensors.iter().filter(|tensor| tensor.spec.is_float()).map(|tensor| tensor.spec.dtype());
    let widest = widest.max_by_key(|dtype| (dtype.bitsize(), *dtype == Dtype::BF16));
    for key in ["torch_dtype", "dtype"] {
        if let (Some(dtype), true) = (widest, config.contains_key(key)) {
            config.insert(key.to_owned(), dtype_name(dtype).into());
        }
    }
    Ok(Some(Value::Object(config)))
}

/// The configuration with the ids of special tokens in the output's vocabulary.
pub(super) fn renumbered(
    config: Option<Value>,
    vocabulary: Option<&Vocabulary>,
    notes: &mut Vec<String>,
) -> Option<Value> {
    let mut config = config?;
    if let (Some(vocabulary), Value::Object(map)) = (vocabulary, &mut config) {
        vocabulary.renumber(map, "config.json", notes);
    }
    Some(config)
}

/// The files of a merged tokenizer, and those of the donor that depend on it.
///
/// # Errors
/// [`Error::File`](crate::Error::File) for a file that is no JSON object.
pub(super) fn files(
    donor: &Opened,
    vocabulary: Option<Vocabulary>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let Some(mut vocabulary) = vocabulary else { return Ok(BTreeMap::new()) };
    let mut files = std::mem::take(&mut vocabulary.files);
    let name = "generation_config.json";
    if let Some(path) = donor.directory().map(|(directory, _)| directory.join(name)).filter(|path| path.is_file()) {
        let mut map = read_object(&path)?;
        vocabulary.renumber(&mut map, name, notes);
        files.insert(name.to_owned(), text(&map));
    }
    Ok(files)
}

fn set_number(config: &mut Map<String, Value>, key: &str, number: usize, notes: &mut Vec<String>) {
    let Some(old) = config.get(key).and_then(Value::as_u64).filter(|old| *old != number as u64) else { return };
    config.insert(key.to_owned(), number.into());
    notes.push(format!("`{key}` of the configuration becomes {number}; it was {old}"));
}

/// The number of layers, and lists with an element for each layer.
fn relayer(config: &mut Map<String, Value>, slices: &[Range<usize>], notes: &mut Vec<String>) {
    let Some(key) = LAYERS.into_iter().find(|key| config.contains_key(*key)) else { return };
    let before = config.get(key).and_then(Value::as_u64).unwrap_or(0) as usize;
    let order: Vec<usize> = slices.iter().flat_map(Clone::clone).collect();
    for (name, value) in config.iter_mut() {
        let Value::Array(values) = value else { continue };
        if before > 1 && values.len() == before && order.iter().all(|layer| *layer < before) {
            *values = order.iter().map(|layer| values[*layer].clone()).collect();
            notes.push(format!("`{name}` of the configuration, which has a value for each layer, follows the slices"));
        }
    }
    set_number(config, key, order.len(), notes);
}
