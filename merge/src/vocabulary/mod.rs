//! Vocabularies: one for the output, and the row of each of its tokens in every model.

mod align;
mod build;
mod files;
mod rows;
mod settings;
mod tokenizer;
mod union;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

pub(crate) use align::Aligned;
pub(crate) use files::{TOKENIZER_FILES, read_object, text};

/// No row.
const NONE: u32 = u32::MAX;
/// Ends of the names of tensors with a row for each token.
const ENDS: [&str; 8] = [
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "embed_in.weight",
    "embed_out.weight",
    "lm_head.weight",
    "lm_head.bias",
];

/// Whether a tensor outside the layers has a row for each token.
pub(crate) fn has_tokens(name: &str) -> bool {
    ENDS.iter().any(|end| name.ends_with(end)) || name == "output.weight"
}

/// What a recipe says about a token of the output; models have numbers.
#[derive(Clone, Debug)]
struct Told {
    given: Option<Given>,
    force: bool,
}

/// The row that a recipe gives to a token.
#[derive(Clone, Debug)]
enum Given {
    Zero,
    /// That of the token in this model.
    Model(usize),
    /// This row of a model.
    Row(usize, u32),
}

/// The vocabulary of the output.
#[derive(Clone, Debug)]
pub(crate) struct Vocabulary {
    /// Rows of the tensors, with those behind the tokens.
    pub(crate) rows: usize,
    /// The text of each id.
    texts: Vec<Option<String>>,
    /// By model: the row of each id.
    own: Vec<Vec<u32>>,
    /// By model: the id from which on tokens have no row.
    limits: Vec<u32>,
    /// By model: the number of its tokens that have a row.
    counts: Vec<usize>,
    /// What the recipe says, by id.
    told: HashMap<u32, Told>,
    base: Option<usize>,
    /// The files of the tokenizer.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What becomes of the ids of the model that the configuration comes from; none if all stay.
    renumbered: Option<HashMap<u32, Option<u32>>>,
}

impl Vocabulary {
    fn is_token(&self, id: usize) -> bool {
        self.texts.get(id).is_some_and(Option::is_some)
    }

    fn text(&self, id: usize) -> &str {
        self.texts.get(id).and_then(Option::as_deref).unwrap_or_default()
    }

    /// Whether the rows of some model move, or are other ones.
    pub(crate) fn changes(&self) -> bool {
        !self.told.is_empty() || self.own.iter().any(|own| own.iter().enumerate().any(|(i, row)| *row as usize != i))
    }

    /// The rows that a model's embedding has, as its tokens and its configuration say.
    pub(crate) fn rows_of(&self, model: usize) -> u32 {
        self.limits[model]
    }

    /// Gives the special tokens of a configuration their ids in the output.
    pub(crate) fn renumber(&self, config: &mut Map<String, Value>, file: &str, notes: &mut Vec<String>) {
        let Some(ids) = &self.renumbered else { return };
        let mut lost = false;
        let mut one = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            match id.and_then(|id| ids.get(&id)) {
                Some(Some(new)) => (*new).into(),
                found => {
                    lost |= found.is_some();
                    value.clone()
                }
            }
        };
        for (key, value) in config.iter_mut().filter(|(key, _)| key.ends_with("_token_id")) {
            let new = match &*value {
                Value::Array(list) => list.iter().map(&mut one).collect(),
                single => one(single),
            };
            if new != *value {
                notes.push(format!("`{key}` of `{file}` becomes {new}; it was {value}"));
                *value = new;
            }
        }
        if lost {
            notes.push(format!("`{file}` names ids of special tokens that the vocabulary does not have"));
        }
    }
}

/// The first of many names for a note.
fn list(names: impl IntoIterator<Item = String>) -> String {
    let all: Vec<String> = names.into_iter().collect();
    let more = all.len().saturating_sub(6);
    let shown = all[..all.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// A number of things for a note.
fn count(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
