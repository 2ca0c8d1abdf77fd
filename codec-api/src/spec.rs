//! Codecs as text: the spec grammar of the command line and the JSON header of payloads.
//!
//! ```text
//! spec := id [ "(" spec { "," spec } ")" ] { ":" key "=" value }
//! ```
//! Examples: `quant.int:bits=4:group=128:symmetric=false`,
//! `residual(lowrank.svd:rank=32,quant.int:bits=4)`. The parentheses hold the child codecs. Without
//! parentheses a codec uses its default children, if it has any ([`CodecEntry::default_children`]).
//! The key `preset=NAME` starts from a preset instead of the defaults; other keys override its
//! values.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::codec::Codec;
use crate::error::SpecError;
use crate::registry::{CodecEntry, Registry};
use crate::version::{VERSION, upgrade};

/// Maximum nesting depth of codecs. It is checked on the text, before any recursive parser runs.
pub const MAX_NESTING: usize = 8;

const TAG: &str = "codec";

impl Registry {
    /// Makes a codec from a spec text (`quant.int:bits=4`).
    ///
    /// # Errors
    /// [`SpecError`]; for a wrong id, key, value or preset the message lists the valid ones.
    pub fn parse_spec(&self, text: &str) -> Result<Arc<dyn Codec>, SpecError> {
        let mut parser = Parser { registry: self, text, rest: text };
        let value = parser.spec(1)?;
        if !parser.rest.is_empty() {
            return Err(parser.syntax("a spec ends here or goes on with `:key=value`"));
        }
        self.build(&value)
    }

    /// Makes a codec from its JSON header, which must state the version and every other key that
    /// the codec writes. A header of an older version, nested ones included, is upgraded first.
    ///
    /// # Errors
    /// [`SpecError`]; the message names unknown or missing keys, newer versions and values out of
    /// range.
    pub fn parse_header(&self, json: &str) -> Result<Arc<dyn Codec>, SpecError> {
        check_nesting(json, MAX_NESTING)?;
        let value: Value = serde_json::from_str(json)
            .map_err(|e| SpecError::Syntax { spec: json.to_owned(), reason: e.to_string() })?;
        self.read_header(value)
    }

    /// As [`Self::parse_header`], for JSON whose nesting is checked.
    pub(crate) fn read_header(&self, mut value: Value) -> Result<Arc<dyn Codec>, SpecError> {
        self.upgrade_codecs(&mut value)?;
        let codec = self.build(&value)?;
        // A missing key would get the default of this program, which may differ from the writer's
        // default.
        let whole = serde_json::to_value(&*codec).map_err(|e| config(&value, e.to_string()))?;
        let missing = missing_key(&whole, &value);
        missing.map_or(Ok(codec), |key| Err(config(&value, format!("the header has no `{key}`"))))
    }

    /// The spec text of a codec with all its keys. [`Registry::parse_spec`] turns it back into the
    /// codec.
    ///
    /// # Panics
    /// Never for a configuration that serialises to a JSON object; typetag ensures that.
    pub fn spec_of(&self, codec: &dyn Codec) -> String {
        serde_json::to_value(codec).map_or_else(|e| format!("{}:<{e}>", codec.typetag_name()), |v| self.format(&v))
    }

    /// Checks that every codec in a header, nested ones included, is in this registry and states
    /// its version, and brings it to the newest version.
    fn upgrade_codecs(&self, value: &mut Value) -> Result<(), SpecError> {
        let id = value[TAG].as_str().unwrap_or_default().to_owned();
        let upgrades = self.entry(&id)?.upgrades;
        let Value::Object(header) = value else { return Ok(()) };
        for nested in header.values_mut().filter(|v| v.get(TAG).is_some()) {
            self.upgrade_codecs(nested)?;
        }
        upgrade(header, upgrades).map_err(|reason| SpecError::Config { id, reason })
    }

    fn format(&self, value: &Value) -> String {
        let id = value[TAG].as_str().unwrap_or_default();
        let fields = self.get(id).map_or(&[][..], |entry| entry.children);
        let mut text = id.to_owned();
        if !fields.is_empty() {
            let children: Vec<_> = fields.iter().map(|f| self.format(&value[*f])).collect();
            let _ = write!(text, "({})", children.join(","));
        }
        for (key, v) in value.as_object().into_iter().flatten() {
            if key != TAG && key != VERSION && !fields.contains(&key.as_str()) && !v.is_null() {
                let _ = write!(text, ":{key}={}", v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            }
        }
        text
    }

    fn build(&self, value: &Value) -> Result<Arc<dyn Codec>, SpecError> {
        let id = value[TAG].as_str().unwrap_or_default().to_owned();
        self.entry(&id)?;
        match serde_json::from_value::<Box<dyn Codec>>(value.clone()) {
            Ok(codec) => Ok(codec.into()),
            Err(e) => {
                let message = e.to_string();
                let reason = culprit(value, &message).map_or(message.clone(), |key| format!("{key}: {message}"));
                Err(SpecError::Config { id, reason })
            }
        }
    }

    fn entry(&self, id: &str) -> Result<&CodecEntry, SpecError> {
        self.get(id).ok_or_else(|| SpecError::UnknownCodec { id: id.to_owned(), known: self.ids() })
    }
}

fn config(value: &Value, reason: String) -> SpecError {
    SpecError::Config { id: value[TAG].as_str().unwrap_or_default().to_owned(), reason }
}

/// The first key that is in `whole`, or in an object nested in it, but not in `part`.
fn missing_key(whole: &Value, part: &Value) -> Option<String> {
    whole.as_object()?.iter().find_map(|(key, value)| match part.get(key) {
        None => Some(key.clone()),
        Some(inner) => missing_key(value, inner),
    })
}

/// The header of a codec: its configuration as one line of JSON.
///
/// # Errors
/// [`SpecError::Config`] if the configuration does not serialise.
pub fn header(codec: &dyn Codec) -> Result<String, SpecError> {
    serde_json::to_string(codec)
        .map_err(|e| SpecError::Config { id: codec.typetag_name().to_owned(), reason: e.to_string() })
}

/// Finds the field with the wrong value, which serde does not name: the field that alone gives the
/// same error message.
fn culprit(value: &Value, message: &str) -> Option<String> {
    if message.starts_with("missing field") {
        return None;
    }
    let object = value.as_object()?;
    let keep = |key: &str, v: &Value| key == TAG || v.is_object();
    object.keys().filter(|key| *key != TAG && !message.contains(&format!("`{key}`"))).find_map(|key| {
        let alone: Map<_, _> =
            object.iter().filter(|(k, v)| *k == key || keep(k, v)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let error = serde_json::from_value::<Box<dyn Codec>>(Value::Object(alone)).err()?;
        (error.to_string() == message).then(|| key.clone())
    })
}

/// Limits the nesting of a JSON text; each nested codec is a nested object.
pub(crate) fn check_nesting(json: &str, limit: usize) -> Result<(), SpecError> {
    if crate::util::is_nested_deeper(json, limit) { Err(SpecError::TooDeep) } else { Ok(()) }
}

struct Parser<'a> {
    registry: &'a Registry,
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn spec(&mut self, depth: usize) -> Result<Value, SpecError> {
        if depth > MAX_NESTING {
            return Err(SpecError::TooDeep);
        }
        let id = self.word("a codec id")?;
        let entry = *self.registry.entry(id)?;
        let mut children = if self.eat('(') { self.children(depth)? } else { Vec::new() };
        let mut options = Vec::new();
        while self.eat(':') {
            let key = self.word("a key")?;
            if !self.eat('=') {
                return Err(self.syntax(&format!("`{key}` wants a value: `{key}=…`")));
            }
            options.push((key, self.word("a value")?));
        }
        if children.is_empty() && options.iter().all(|(key, _)| *key != "preset") {
            children = self.default_children(&entry, depth)?;
        }
        let value = object(self.registry, &entry, children, &options)?;
        // Built here so that an error names the codec with the wrong key, not the outermost codec.
        self.registry.build(&value)?;
        Ok(value)
    }

    fn children(&mut self, depth: usize) -> Result<Vec<Value>, SpecError> {
        let mut children = vec![self.spec(depth + 1)?];
        while self.eat(',') {
            children.push(self.spec(depth + 1)?);
        }
        if self.eat(')') { Ok(children) } else { Err(self.syntax("`,` or `)` is wanted")) }
    }

    fn default_children(&self, entry: &CodecEntry, depth: usize) -> Result<Vec<Value>, SpecError> {
        let specs = entry.default_children.iter();
        specs.map(|text| Parser { registry: self.registry, text, rest: text }.spec(depth + 1)).collect()
    }

    /// Reads up to the next punctuation character of the grammar.
    fn word(&mut self, what: &str) -> Result<&'a str, SpecError> {
        let end = self.rest.find([':', '=', '(', ')', ',']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(self.syntax(&format!("{what} is wanted")));
        }
        self.rest = rest;
        Ok(word)
    }

    fn eat(&mut self, c: char) -> bool {
        self.rest.strip_prefix(c).inspect(|rest| self.rest = rest).is_some()
    }

    fn syntax(&self, reason: &str) -> SpecError {
        let at = self.text.len() - self.rest.len();
        SpecError::Syntax { spec: self.text.to_owned(), reason: format!("at character {at}: {reason}") }
    }
}

/// The JSON header of a spec: the preset first, then children and keys override it.
fn object(
    registry: &Registry,
    entry: &CodecEntry,
    children: Vec<Value>,
    options: &[(&str, &str)],
) -> Result<Value, SpecError> {
    let wrong = |reason: String| SpecError::Config { id: entry.id.to_owned(), reason };
    for (i, (key, _)) in options.iter().enumerate() {
        if *key == TAG {
            return Err(wrong(format!("`{TAG}` is no key: the id stands before the first `:`")));
        }
        if options[..i].iter().any(|(other, _)| other == key) {
            return Err(wrong(format!("`{key}` is given twice")));
        }
    }
    let mut object = Map::new();
    object.insert(TAG.to_owned(), entry.id.into());
    for (_, name) in options.iter().filter(|(key, _)| *key == "preset") {
        let preset = registry.preset(entry.id, name)?;
        object.extend(preset.as_object().cloned().into_iter().flatten());
    }
    if children.len() > entry.children.len() || (children.len() < entry.children.len() && object.len() == 1) {
        let wanted = match entry.children {
            [] => "takes no codec in parentheses".to_owned(),
            fields => format!("takes {} in parentheses: {}({})", fields.len(), entry.id, fields.join(",")),
        };
        return Err(wrong(wanted));
    }
    for (field, child) in entry.children.iter().zip(children) {
        object.insert((*field).to_owned(), child);
    }
    for (key, text) in options.iter().filter(|(key, _)| *key != "preset") {
        object.insert((*key).to_owned(), scalar(text));
    }
    Ok(Value::Object(object))
}

impl Registry {
    fn preset(&self, id: &str, name: &str) -> Result<Value, SpecError> {
        let presets = self.presets_of(id);
        let Some((_, codec)) = presets.iter().find(|(preset, _)| *preset == name) else {
            let known = presets.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            return Err(SpecError::UnknownPreset { id: id.to_owned(), name: name.to_owned(), known });
        };
        serde_json::to_value(&**codec).map_err(|e| SpecError::Config { id: id.to_owned(), reason: e.to_string() })
    }
}

/// Parses `true`, `false` and numbers; every other text is a string.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}
