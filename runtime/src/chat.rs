//! The prompt of a conversation, from the chat template of a model.

use std::path::{Path, PathBuf};

use minijinja::{Environment, ErrorKind, context};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Steps that a template may take: some thousand times those of usual ones.
const FUEL: u64 = 10_000_000;

/// The chat template of a model, a Jinja template in the file `chat_template.jinja` beside the
/// weights or under the key `chat_template` of `tokenizer_config.json`. It is rendered as
/// transformers does.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    path: PathBuf,
    /// Texts of the tokens at the beginning and the end of a text.
    tokens: [String; 2],
}

impl ChatTemplate {
    /// Reads the template in a model's directory ([`crate::directory`]).
    ///
    /// # Errors
    /// [`Error::File`] if there is none, or it cannot be read.
    pub fn open(directory: &Path) -> Result<Self> {
        let [own, config] = ["chat_template.jinja", "tokenizer_config.json"].map(|name| directory.join(name));
        let keys = keys(&config)?;
        let tokens = ["bos_token", "eos_token"].map(|key| token(&keys, key));
        if own.exists() {
            return Ok(Self { source: read(&own)?, path: own, tokens });
        }
        let source = match keys.get("chat_template") {
            Some(Value::String(text)) => Some(text.clone()),
            // Several templates by name.
            Some(Value::Array(list)) => list
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str().map(str::to_owned)),
            _ => None,
        };
        let reason = "the model has no chat template: neither the key `chat_template` here nor a file \
                      `chat_template.jinja`; such a model can only continue a text";
        let source = source.ok_or_else(|| Error::file(&config, reason))?;
        Ok(Self { source, path: config, tokens })
    }

    /// The text of a conversation with one message of the user, up to where the answer begins. It
    /// has the special tokens already ([`crate::Tokenizer::encode_whole`]).
    ///
    /// # Errors
    /// [`Error::File`] with the line, if the template is wrong or refuses the message.
    pub fn render(&self, message: &str) -> Result<String> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |reason: String| -> std::result::Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
            },
        );
        let [bos_token, eos_token] = &self.tokens;
        let values = context! {
            messages => [context! { role => "user", content => message }],
            add_generation_prompt => true,
            bos_token,
            eos_token,
        };
        let rendered = environment.render_named_str("chat template", &self.source, values);
        rendered.map_err(|error| Error::file(&self.path, error.to_string()))
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::beside(path, &error))
}

/// The keys of `tokenizer_config.json`; none if there is no such file.
fn keys(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() {
        return Ok(Map::new());
    }
    serde_json::from_str(&read(path)?).map_err(|error| Error::file(path, format!("{error}; a JSON object is wanted")))
}

/// The text of a special token, which may be an object with it.
fn token(keys: &Map<String, Value>, key: &str) -> String {
    let value = keys.get(key);
    let text = value.and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
    text.unwrap_or_default().to_owned()
}
