//! Chat templates.

use std::fs;
use std::path::Path;

use runtime::{ChatTemplate, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A template in the manner of many models.
const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
    {{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}\
    {{'<|im_start|>' + message['role'] + '\n' + message['content'].strip() + '<|im_end|>' + '\n'}}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Methods, a namespace, tests and blocks on lines of their own, as in newer templates.
const BLOCKS: &str = "{{- bos_token }}
{%- set ns = namespace(found=false) %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now('%d') %}
    {%- else %}
        {%- set date_string = '26 Jul 2024' %}
    {%- endif %}
{%- endif %}
Today: {{ date_string }}
{% for message in messages %}
    {% if message.content is string and message.role.startswith('us') %}
[{{ message['role'] | upper }}] {{ message.content | trim }}{{ eos_token }}
        {% set ns.found = true %}
        {% break %}
    {% endif %}
{% endfor %}
{% if not ns.found %}{{ raise_exception('nothing is asked') }}{% endif %}
{{ messages[0] | tojson }}
";

fn folder(files: &[(&str, String)]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(place.path().join(name), text).unwrap();
    }
    place
}

fn config(template: &Value) -> (&'static str, String) {
    let config = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": template});
    ("tokenizer_config.json", config.to_string())
}

fn rendered(files: &[(&str, String)], message: &str) -> Result<String, String> {
    let place = folder(files);
    let template = ChatTemplate::open(place.path()).map_err(|error| error.to_string())?;
    template.render(message).map_err(|error| error.to_string())
}

#[test]
fn a_message_stands_where_the_template_puts_it() {
    let expected = "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(rendered(&[config(&json!(CHATML))], " Why?\n").unwrap(), expected);
    let named = json!([{"name": "tool_use", "template": "x"}, {"name": "default", "template": CHATML}]);
    assert_eq!(rendered(&[config(&named)], "Why?").unwrap(), expected);
    let expected = "<s>Today: 26 Jul 2024\n[USER] Why?</s>\n{\"role\": \"user\", \"content\": \"Why?\"}";
    let found = rendered(&[config(&json!("other")), ("chat_template.jinja", BLOCKS.to_owned())], "Why?").unwrap();
    assert_eq!(found.replace("\":\"", "\": \"").replace("\",\"", "\", \""), expected);
    assert_eq!(rendered(&[("chat_template.jinja", "{{ messages|length }}".to_owned())], "").unwrap(), "1");
}

#[test]
fn what_cannot_be_rendered_is_refused() {
    for (template, part) in [
        (json!(null), "the model has no chat template"),
        (json!([{"name": "other", "template": "x"}]), "the model has no chat template"),
        (json!("{% if %}"), "syntax error"),
        (json!("{{ raise_exception('only the system may speak') }}"), "only the system may speak"),
        (json!("{{ unknown_function() }}"), "unknown_function"),
        (json!("{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}"), "fuel"),
    ] {
        let error = rendered(&[config(&template)], "Why?").unwrap_err();
        assert!(error.contains("tokenizer_config.json") && error.contains(part), "{template}: {error}");
    }
    assert!(rendered(&[("tokenizer_config.json", "[]".to_owned())], "").unwrap_err().contains("a JSON object"));
    assert!(rendered(&[], "").unwrap_err().contains("the model has no chat template"));
}

#[test]
fn a_rendered_text_has_its_special_tokens_already() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories260k");
    let tokenizer = Tokenizer::open(&model).unwrap();
    let (plain, whole) = (tokenizer.encode("Tom").unwrap(), tokenizer.encode_whole("<s>Tom").unwrap());
    assert_eq!((plain[0], plain.len()), (1, tokenizer.encode_whole("Tom").unwrap().len() + 1));
    assert_eq!(whole[0], 1);
}
