//! The keys of a configuration, with errors that name them.

use std::path::Path;

use serde_json::{Map, Value};

use super::MOST;
use crate::error::{Error, Result};

/// An object of a `config.json`.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    path: &'a Path,
    /// The keys around the object, with a dot behind each.
    place: String,
    map: Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(super) fn parse(path: &'a Path, text: &str) -> Result<Self> {
        let wanted = |error| Error::file(path, format!("{error}; a JSON object is wanted"));
        let map = serde_json::from_str(text).map_err(wanted)?;
        Ok(Self { path, place: String::new(), map })
    }

    /// An error about a key.
    pub(super) fn refuse<T>(&self, key: &str, reason: impl Into<String>) -> Result<T> {
        let key = format!("{}{key}", self.place);
        Err(Error::Config { path: self.path.to_owned(), key, reason: reason.into() })
    }

    /// The value of a key; `null` is as good as absent.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn need<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.map_or_else(|| self.refuse(key, "it is missing"), Ok)
    }

    fn read<T>(&self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map_or_else(|| self.refuse(key, format!("`{value}` is not {what}")), |value| Ok(Some(value)))
    }

    /// The first of these keys that is there; the first one if none is.
    pub(super) fn first<'k>(&self, keys: &[&'k str]) -> &'k str {
        keys.iter().find(|key| self.get(key).is_some()).unwrap_or(&keys[0])
    }

    pub(super) fn text(&self, key: &str) -> Result<String> {
        let text = self.read(key, "a text", |value| value.as_str().map(str::to_owned))?;
        self.need(key, text)
    }

    /// A number of things: at least 1.
    pub(super) fn count(&self, key: &str) -> Result<usize> {
        let count = self.maybe_count(key)?;
        self.need(key, count)
    }

    pub(super) fn maybe_count(&self, key: &str) -> Result<Option<usize>> {
        self.read(key, &format!("a whole number from 1 to {MOST}"), |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MOST).contains(n))
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<f64> {
        let number = self.maybe_number(key)?;
        self.need(key, number)
    }

    /// A positive number.
    pub(super) fn maybe_number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a positive number", |value| value.as_f64().filter(|n| n.is_finite() && *n > 0.0))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.read(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// One token or a list of tokens.
    pub(super) fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let token = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let tokens = self.read(key, "a token or a list of tokens", |value| match value {
            Value::Array(list) => list.iter().map(token).collect(),
            // Some models write -1 for none.
            one => {
                if one.as_i64() == Some(-1) {
                    Some(Vec::new())
                } else {
                    token(one).map(|one| vec![one])
                }
            }
        })?;
        Ok(tokens.unwrap_or_default())
    }

    /// A list of whole numbers.
    pub(super) fn counts(&self, key: &str) -> Result<Vec<usize>> {
        let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let list = self.read(key, "a list of whole numbers", |value| value.as_array()?.iter().map(number).collect())?;
        Ok(list.unwrap_or_default())
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.read(key, "a list of texts", |value| value.as_array()?.iter().map(text).collect())
    }

    /// The object of a key.
    pub(super) fn inside(&self, key: &str) -> Result<Option<Keys<'a>>> {
        let map = self.read(key, "an object", |value| value.as_object().cloned())?;
        let place = format!("{}{key}.", self.place);
        Ok(map.map(|map| Keys { path: self.path, place, map }))
    }

    /// Refuses a key that has a value.
    pub(super) fn absent(&self, key: &str, reason: &str) -> Result<()> {
        if self.get(key).is_some() { self.refuse(key, reason) } else { Ok(()) }
    }

    /// Refuses a key with another value than this one, which is also its default.
    pub(super) fn only(&self, key: &str, value: &Value) -> Result<()> {
        match self.get(key) {
            Some(found) if found != value => self.refuse(key, format!("`{found}` is not supported, only `{value}`")),
            _ => Ok(()),
        }
    }
}
