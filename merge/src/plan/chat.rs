//! The chat template of the output.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::models::Opened;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::vocabulary::{read_object, text};

const KEY: &str = "chat_template";
const TEMPLATE: &str = "chat_template.jinja";
/// Files with a key for the template.
const KEYED: [&str; 2] = ["tokenizer_config.json", "chat_template.json"];

/// Templates by name, one for each of the widespread formats.
const NAMED: [(&str, &str); 5] = [
    (
        "alpaca",
        "{%- for m in messages %}\
         {%- if m['role'] == 'system' %}{{- (m['content'] | trim) ~ '\\n\\n' }}\
         {%- elif m['role'] == 'user' %}{{- '### Instruction:\\n' ~ (m['content'] | trim) ~ '\\n\\n' }}\
         {%- elif m['role'] == 'user_context' %}{{- '### Input:\\n' ~ (m['content'] | trim) ~ '\\n\\n' }}\
         {%- elif m['role'] == 'assistant' %}{{- '### Response:\\n' ~ (m['content'] | trim) ~ '\\n\\n' }}\
         {%- endif %}{%- endfor %}\
         {%- if add_generation_prompt %}{{- '### Response:\\n' }}{%- endif %}",
    ),
    (
        "chatml",
        "{%- for m in messages %}\
         {{- '<|im_start|>' ~ m['role'] ~ '\\n' ~ m['content'] ~ '<|im_end|>\\n' }}\
         {%- endfor %}\
         {%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
    ),
    (
        "exaone",
        "{%- if messages[0]['role'] != 'system' %}{{- '[|system|][|endofturn|]\\n' }}{%- endif %}\
         {%- for m in messages %}\
         {{- '[|' ~ m['role'] ~ '|]' ~ m['content'] ~ ('\\n' if m['role'] == 'user' else '[|endofturn|]\\n') }}\
         {%- endfor %}\
         {%- if add_generation_prompt %}{{- '[|assistant|]' }}{%- endif %}",
    ),
    (
        "llama3",
        "{{- bos_token }}{%- for m in messages %}\
         {{- '<|start_header_id|>' ~ m['role'] ~ '<|end_header_id|>\\n\\n' ~ (m['content'] | trim) ~ '<|eot_id|>' }}\
         {%- endfor %}\
         {%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}",
    ),
    (
        "mistral",
        "{%- set turn = namespace(user=true, before='') %}{{- bos_token }}{%- for m in messages %}\
         {%- if m['role'] == 'system' and loop.first %}{%- set turn.before = m['content'] ~ '\\n\\n' %}\
         {%- elif m['role'] == 'user' and turn.user %}\
         {{- ' [INST] ' ~ turn.before ~ m['content'] ~ ' [/INST]' }}\
         {%- set turn.user = false %}{%- set turn.before = '' %}\
         {%- elif m['role'] == 'assistant' and not turn.user %}\
         {{- ' ' ~ m['content'] ~ eos_token }}{%- set turn.user = true %}\
         {%- else %}{{- raise_exception('user and assistant take turns, behind one message of the system') }}\
         {%- endif %}{%- endfor %}",
    ),
];

/// Puts the template that the recipe asks for among the files of the output.
///
/// # Errors
/// [`Error::Key`] for what is no template; [`Error::File`] for files that cannot be read.
pub(super) fn set(
    recipe: &Recipe,
    models: &[Opened],
    donor: usize,
    files: &mut BTreeMap<String, Vec<u8>>,
    notes: &mut Vec<String>,
) -> Result<()> {
    let Some(wanted) = recipe.chat_template.as_deref().filter(|wanted| !wanted.is_empty()) else { return Ok(()) };
    let Some(template) = find(wanted, models, notes)? else { return Ok(()) };
    for name in KEYED {
        let donated = models[donor].directory().map(|(directory, _)| directory.join(name));
        let mut map = match (files.get(name), donated.filter(|path| path.is_file())) {
            (Some(bytes), _) => serde_json::from_slice(bytes).map_err(|e| Error::file(name, e.to_string()))?,
            (None, Some(path)) => read_object(&path)?,
            (None, None) => continue,
        };
        map.insert(KEY.to_owned(), json!(template));
        files.insert(name.to_owned(), text(&map));
    }
    files.insert(TEMPLATE.to_owned(), template.into_bytes());
    Ok(())
}

fn find(wanted: &str, models: &[Opened], notes: &mut Vec<String>) -> Result<Option<String>> {
    if wanted == "auto" {
        return most_common(models, notes);
    }
    if let Some((_, template)) = NAMED.iter().find(|(name, _)| *name == wanted) {
        return Ok(Some((*template).to_owned()));
    }
    if wanted.len() >= 20 && wanted.contains('{') {
        return Ok(Some(wanted.to_owned()));
    }
    let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
    let reason =
        format!("`{wanted}` is no template in Jinja; there are auto, {}, or the text of a template", names.join(", "));
    Err(Error::key(KEY, reason))
}

/// The template that most models have; the first one of several.
fn most_common(models: &[Opened], notes: &mut Vec<String>) -> Result<Option<String>> {
    let mut counts: Vec<(String, Vec<String>)> = Vec::new();
    for model in models {
        let Some(template) = of_model(model)? else { continue };
        match counts.iter_mut().find(|(known, _)| *known == template) {
            Some((_, names)) => names.push(model.name()),
            None => counts.push((template, vec![model.name()])),
        }
    }
    let most = counts.iter().map(|(_, names)| names.len()).max();
    let Some((template, names)) = counts.into_iter().find(|(_, names)| Some(names.len()) == most) else {
        notes.push("no model has a chat template, so the output has none".to_owned());
        return Ok(None);
    };
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    notes.push(format!("the chat template is that of {}", names.join(", ")));
    Ok(Some(template))
}

fn of_model(model: &Opened) -> Result<Option<String>> {
    let Some((directory, _)) = model.directory() else { return Ok(None) };
    let own = directory.join(TEMPLATE);
    if own.is_file() {
        let template = std::fs::read_to_string(&own).map_err(|e| Error::file(&own, e.to_string()))?;
        return Ok(Some(template.trim().to_owned()));
    }
    let config = directory.join(KEYED[0]);
    let map = if config.is_file() { read_object(&config)? } else { return Ok(None) };
    let template = match map.get(KEY) {
        Some(Value::String(template)) => Some(template.as_str()),
        Some(Value::Object(by_name)) => by_name.get("default").and_then(Value::as_str),
        // Several templates by name.
        Some(Value::Array(list)) => {
            list.iter().find(|entry| entry["name"] == "default").and_then(|entry| entry["template"].as_str())
        }
        _ => None,
    };
    Ok(template.map(|template| template.trim().to_owned()).filter(|template| !template.is_empty()))
}
