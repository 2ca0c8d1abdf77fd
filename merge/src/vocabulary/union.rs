//! The union of vocabularies: that of the donor, and behind it what the others have more.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::tokenizer::{Tokenizer, plain};
use super::{count, list};
use crate::error::{Error, Result};

/// Texts of byte-level and word-piece tokens that stand for a space, a line feed or a tab.
const MARKS: [char; 4] = ['Ġ', 'Ċ', 'ĉ', '▁'];

/// What a union collects.
pub(super) struct Union {
    merges: BTreeSet<(String, String)>,
    /// Tokens that the donor does not have, in the order of models and ids.
    plain: Vec<String>,
    known: HashSet<String>,
    /// Added tokens of all.
    added: Vec<Value>,
    notes: Vec<String>,
}

impl Union {
    pub(super) fn new(donor: &Tokenizer) -> Self {
        let known = donor.ids.keys().cloned().collect();
        Self { merges: donor.merges(), plain: Vec::new(), known, added: donor.added().to_vec(), notes: Vec::new() }
    }

    /// Adds the tokens of a model with ids below `limit`.
    pub(super) fn add(&mut self, name: &str, tokenizer: &Tokenizer, limit: u32) {
        let text = |entry: &Value| entry.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = |entry: &Value| entry.get("id").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let own: HashSet<String> = tokenizer.added().iter().map(text).collect();
        let (mut new, mut differing) = (Vec::new(), Vec::new());
        for (id, text) in tokenizer.ordered() {
            if id < limit && !own.contains(text) && self.known.insert(text.to_owned()) {
                new.push(text.to_owned());
                self.plain.push(text.to_owned());
            }
        }
        let mut entries: Vec<&Value> = tokenizer.added().iter().filter(|entry| id(entry) < u64::from(limit)).collect();
        entries.sort_by_key(|entry| id(entry));
        for entry in entries {
            let content = text(entry);
            match self.added.iter().find(|other| text(other) == content) {
                Some(other) if !is_alike(other, entry) => differing.push(content),
                Some(_) => {}
                None => {
                    if self.known.insert(content.clone()) {
                        new.push(content);
                    }
                    self.added.push(entry.clone());
                }
            }
        }
        let shown = |texts: &[String]| list(texts.iter().map(|text| format!("`{text}`")));
        if !new.is_empty() {
            self.notes.push(format!("the vocabulary gets {} of `{name}`: {}", count(new.len(), "token"), shown(&new)));
        }
        if !differing.is_empty() {
            let texts = shown(&differing);
            self.notes.push(format!("added tokens of `{name}` have other settings than before, which stay: {texts}"));
        }
        let lost = tokenizer.merges().difference(&self.merges).count();
        if lost > 0 {
            self.notes.push(format!(
                "the vocabulary loses {} of `{name}`: tokens that they make are found only where they stand as wholes",
                count(lost, "merge")
            ));
        }
    }

    /// Adds what was collected to the donor's tokenizer.
    ///
    /// # Errors
    /// If its ids cannot go on.
    pub(super) fn finish(self, out: &mut Tokenizer, donor: &str, notes: &mut Vec<String>) -> Result<()> {
        let content = |entry: &Value| entry.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
        let added: HashSet<String> = self.added.iter().map(content).collect();
        let mut entries: Vec<Value> =
            self.plain.iter().filter(|text| !added.contains(*text)).map(|t| plain(t)).collect();
        let marked = entries.iter().filter(|entry| content(entry).contains(MARKS)).count();
        let old: Vec<String> = out.added().iter().map(content).collect();
        let special: Vec<String> = self
            .added
            .iter()
            .map(content)
            .filter(|text| out.ids.contains_key(text) && !old.contains(text))
            .map(|text| format!("`{text}`"))
            .collect();
        entries.extend(self.added);
        out.add(&entries).map_err(|reason| Error::file(&out.path, reason))?;
        notes.extend(self.notes);
        if !special.is_empty() {
            let shown = list(special);
            notes.push(format!("tokens of `{donor}` become added ones, as in other models: {shown}"));
        }
        if marked > 0 {
            notes.push(format!(
                "{} of these have a mark of a space or a line (`Ġ`, `▁`), and a tokenizer that splits texts before it \
                 puts the marks does not find them",
                count(marked, "token")
            ));
        }
        Ok(())
    }
}

/// Whether two added tokens have the same settings.
fn is_alike(a: &Value, b: &Value) -> bool {
    ["single_word", "lstrip", "rstrip", "normalized", "special"].iter().all(|key| a.get(key) == b.get(key))
}
