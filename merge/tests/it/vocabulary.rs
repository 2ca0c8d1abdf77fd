//! Vocabularies that differ, against what mergekit 0.1.5 made of the same models.

use std::collections::BTreeMap;
use std::path::Path;

use checkpoint::Checkpoint;
use codec_api::{Cancel, Dtype, NoProgress, Registry};
use codecs as _;
use merge::{Plan, PlanOptions, Recipe, RunOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{fixture, noise, write_model};

const EMBED: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The models of the fixture.
fn models(dir: &Path, data: &Value) {
    for (name, model) in data["models"].as_object().unwrap() {
        let rows = model["rows"].as_u64().unwrap() as usize;
        let values = |key: &str| -> Vec<f32> { model[key].as_array().unwrap().iter().flat_map(row).collect() };
        let mut tensors = vec![
            (EMBED.to_owned(), Dtype::F32, vec![rows, 4], values("embed")),
            ("model.layers.0.self_attn.q_proj.weight".to_owned(), Dtype::F32, vec![4, 4], noise(rows as u64, 16)),
        ];
        if !model["head"].is_null() {
            tensors.push((HEAD.to_owned(), Dtype::F32, vec![rows, 4], values("head")));
        }
        let eos = &model["tokenizer"]["model"]["vocab"]["c"];
        let config = json!({"model_type": "llama", "num_hidden_layers": 1, "vocab_size": rows, "eos_token_id": [eos, 0],
            "tie_word_embeddings": model["tie"]});
        let at = dir.join(name);
        write_model(&at, &tensors, &config);
        std::fs::write(at.join("tokenizer.json"), model["tokenizer"].to_string()).unwrap();
        let settings =
            json!({"eos_token": "c", "added_tokens_decoder": {}, "chat_template": format!("{{{{ '{name}' }}}}")});
        std::fs::write(at.join("tokenizer_config.json"), settings.to_string()).unwrap();
        std::fs::write(at.join("generation_config.json"), json!({"eos_token_id": eos}).to_string()).unwrap();
    }
}

fn row(values: &Value) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The recipe with the paths of the models.
fn plan(dir: &Path, yaml: &str) -> Result<Plan, String> {
    let mut text = yaml.to_owned();
    for key in ["model: ", "base_model: ", "source: ", "tokenizer_source: "] {
        for name in ["A", "B", "C", "D", "none"] {
            for end in ["\n", ",", "}"] {
                text = text.replace(&format!("{key}{name}{end}"), &format!("{key}{}/{name}{end}", dir.display()));
            }
        }
    }
    let recipe = Recipe::from_yaml(&text)?;
    Plan::new(recipe, PlanOptions::default(), &Registry::linked().unwrap()).map_err(|error| error.to_string())
}

fn run(plan: &Plan, out: &Path) {
    let cancel = Cancel::new();
    merge::run(plan, out, &RunOptions::new(&cancel, &NoProgress)).unwrap();
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The ids of the tokens.
fn ids(tokenizer: &Value) -> BTreeMap<String, usize> {
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap().iter();
    let mut ids: BTreeMap<String, usize> = vocab.map(|(t, id)| (t.clone(), id.as_u64().unwrap() as usize)).collect();
    for entry in tokenizer["added_tokens"].as_array().unwrap() {
        ids.insert(entry["content"].as_str().unwrap().to_owned(), entry["id"].as_u64().unwrap() as usize);
    }
    ids
}

#[test]
fn rows_are_those_of_mergekit() {
    let data = fixture("tokenizers.json");
    for case in data["cases"].as_array().unwrap() {
        let dir = TempDir::new().unwrap();
        models(dir.path(), &data);
        let name = case["name"].as_str().unwrap();
        let plan = plan(dir.path(), case["yaml"].as_str().unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let out = dir.path().join("out");
        run(&plan, &out);
        let rows = case["rows"].as_u64().unwrap() as usize;
        assert_eq!(json_of(&out.join("config.json"))["vocab_size"], rows, "{name}");
        let tokenizer = json_of(&out.join("tokenizer.json"));
        let (ids, model) = (ids(&tokenizer), Checkpoint::open(&out).unwrap());
        for (key, tensor) in [("embed", EMBED), ("head", HEAD)] {
            let found = model.tensor(tensor).unwrap();
            assert_eq!(found.spec().shape(), [rows, 4], "{name}");
            let values = found.to_f32().unwrap();
            let expected = case[key].as_object().unwrap();
            assert_eq!(expected.keys().collect::<std::collections::BTreeSet<_>>(), ids.keys().collect(), "{name}");
            for (token, wanted) in expected {
                let own = &values[ids[token] * 4..][..4];
                let worst = own.iter().zip(row(wanted)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-6, "{name}, `{token}` of {tensor}: {own:?}, {wanted}");
            }
            if key == "embed" && !case["padding"].is_null() {
                let wanted = row(&case["padding"]);
                assert!(values[(rows - 1) * 4..].iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
            }
        }
        let added: BTreeMap<&str, bool> = tokenizer["added_tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (entry["content"].as_str().unwrap(), entry["normalized"] == true))
            .collect();
        let wanted = case["added"].as_array().unwrap().iter();
        let wanted: BTreeMap<&str, bool> = wanted.map(|e| (e[0].as_str().unwrap(), e[2] == true)).collect();
        assert_eq!(added, wanted, "{name}");
        let loaded = tokenizers::Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
        assert_eq!(loaded.get_vocab_size(true), ids.len());
        for (token, id) in &ids {
            assert_eq!(loaded.token_to_id(token), Some(*id as u32), "{name}, `{token}`");
        }
    }
}

#[test]
fn a_union_encodes_the_tokens_of_both() {
    let (data, dir) = (fixture("tokenizers.json"), TempDir::new().unwrap());
    models(dir.path(), &data);
    let yaml = data["cases"][1]["yaml"].as_str().unwrap();
    let out = dir.path().join("out");
    let plan = plan(dir.path(), yaml).unwrap();
    run(&plan, &out);
    let loaded = tokenizers::Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
    let text = |ids: &[u32]| ids.iter().map(|id| loaded.id_to_token(*id).unwrap()).collect::<Vec<_>>();
    // `ab` is a merge of A; `ef` and `<|x|>` are found as wholes.
    assert_eq!(text(loaded.encode("abcef<|x|>fa", false).unwrap().get_ids()), ["ab", "c", "ef", "<|x|>", "f", "a"]);
    let notes = plan.notes().join("\n");
    for part in [
        "the vocabulary gets 4 tokens of `",
        "`e`, `f`, `ef`, `<|x|>`",
        "the vocabulary loses 1 merge of `",
        "/B`, the rows of 2 tokens are those of `",
        "/A`, the rows of 4 tokens are those of `",
        "/A` has 3 rows behind its tokens, left out",
        "the vocabulary has 9 tokens",
        "`vocab_size` of the configuration becomes 9; it was 8",
    ] {
        assert!(notes.contains(part), "{part}\n{notes}");
    }
    let settings = json_of(&out.join("tokenizer_config.json"));
    assert_eq!(settings["added_tokens_decoder"]["8"]["content"], "<|x|>");
    assert_eq!(settings["added_tokens_decoder"]["8"]["special"], true);
    assert!(plan.is_aligned(EMBED) && plan.is_aligned(HEAD) && !plan.is_aligned("model.norm.weight"));
}

#[test]
fn another_vocabulary_of_an_input_keeps_no_finished_file() {
    let (data, dir) = (fixture("tokenizers.json"), TempDir::new().unwrap());
    models(dir.path(), &data);
    let yaml = data["cases"][0]["yaml"].as_str().unwrap();
    let out = dir.path().join("out");
    let cancel = Cancel::new();
    let kept = |plan: &Plan| merge::run(plan, &out, &RunOptions::new(&cancel, &NoProgress)).unwrap().kept;
    assert_eq!([kept(&plan(dir.path(), yaml).unwrap()), kept(&plan(dir.path(), yaml).unwrap())], [0, 1]);
    let path = dir.path().join("B/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"c\":1,\"a\":2", "\"c\":2,\"a\":1");
    std::fs::write(&path, text).unwrap();
    assert_eq!(kept(&plan(dir.path(), yaml).unwrap()), 0);
}

#[test]
fn special_tokens_follow_the_tokenizer_of_another_model() {
    let (data, dir) = (fixture("tokenizers.json"), TempDir::new().unwrap());
    models(dir.path(), &data);
    let yaml = "models: [{model: A}, {model: C}]\nbase_model: A\nmerge_method: linear\nparameters: {weight: 1}\n";
    for (source, eos) in [("B", json!([1, 0])), ("model: B", json!([1, 0])), ("base", json!([3, 0]))] {
        let source = source.replace("model: B", &format!("model:{}/B", dir.path().display()));
        let plan = plan(dir.path(), &format!("{yaml}tokenizer_source: {source}\n")).unwrap();
        let out = dir.path().join("out");
        run(&plan, &out);
        assert_eq!(json_of(&out.join("config.json"))["eos_token_id"], eos, "{source}");
        assert_eq!(json_of(&out.join("generation_config.json"))["eos_token_id"], eos[0], "{source}");
        let moved = plan.notes().iter().any(|note| note.contains("`eos_token_id` of `config.json` becomes [1,0]"));
        assert_eq!(moved, source != "base", "{:?}", plan.notes());
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn tokens_without_a_row_are_taken_out_or_count_as_missing() {
    let (data, dir) = (fixture("tokenizers.json"), TempDir::new().unwrap());
    models(dir.path(), &data);
    for (name, size) in [("A", 4), ("B", 6)] {
        let path = dir.path().join(name).join("config.json");
        let mut config = json_of(&path);
        config["vocab_size"] = size.into();
        std::fs::write(&path, config.to_string()).unwrap();
    }
    let plan = plan(dir.path(), data["cases"][1]["yaml"].as_str().unwrap()).unwrap();
    let out = dir.path().join("out");
    run(&plan, &out);
    let tokenizer = json_of(&out.join("tokenizer.json"));
    let names: Vec<String> = ids(&tokenizer).into_keys().collect();
    assert_eq!(names, ["<unk>", "a", "b", "c", "e", "ef", "f"], "neither `ab` nor `<|x|>` has a row");
    assert_eq!(tokenizer["model"]["merges"], json!([]));
    tokenizers::Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
    let notes = plan.notes().join("\n");
    assert!(notes.contains("have no row in the model, and are taken out"), "{notes}");
    assert!(notes.contains("have no row in its embedding"), "{notes}");
}

#[test]
fn wrong_vocabularies_are_refused_by_key_or_file() {
    let (data, dir) = (fixture("tokenizers.json"), TempDir::new().unwrap());
    models(dir.path(), &data);
    let recipe = |rest: &str| {
        format!(
            "models: [{{model: A}}, {{model: B}}]\nbase_model: A\nmerge_method: linear\nparameters: {{weight: 1}}\n{rest}\n"
        )
    };
    let told = |rest: &str| recipe(&format!("tokenizer: {{tokens: {{e: {rest}}}}}"));
    for (yaml, parts) in [
        (recipe(""), ["vocabularies differ", "`tokenizer_source: union`"]),
        (recipe("tokenizer: {sauce: union}"), ["tokenizer", "`sauce` is unknown"]),
        (recipe("tokenizer: {pad_to_multiple_of: 0}"), ["tokenizer.pad_to_multiple_of", "`0`"]),
        (recipe("tokenizer_source: none"), ["none/tokenizer.json", "save_pretrained"]),
        (recipe("tokenizer_source: union\ntokenizer: {}"), ["tokenizer", "one of the two"]),
        (told("{source: {kind: nought}}"), ["tokenizer.tokens.e.source", "`zero` and `model_token`"]),
        (told("{source: C}"), ["tokenizer.tokens.e.source", "no model of the recipe"]),
        (told("{source: A}"), ["tokenizer.tokens.e.source", "does not have the token"]),
        (told("{force: true}"), ["tokenizer.tokens.e", "say by what"]),
        (told("{}"), ["tokenizer.tokens.e", "say with `source`"]),
        (told("{source: {kind: model_token, model: B, token: zz}}"), ["tokenizer.tokens.e.source", "token `zz`"]),
        (told("{source: {kind: model_token, model: B, token_id: 7}}"), ["tokenizer.tokens.e.source", "has no row 7"]),
        (told("{source: {kind: model_token, model: B}}"), ["tokenizer.tokens.e.source", "one of `token`"]),
    ] {
        let error = plan(dir.path(), &yaml).map(|_| yaml.clone()).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{yaml}\n{error}");
    }
    let union = recipe("tokenizer_source: union");
    let path = dir.path().join("B/tokenizer.json");
    for (change, part) in [
        ("[1]", "JSON object"),
        ("{\"model\": {}}", "`model.vocab`"),
        ("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}}}", "same id"),
        ("{\"model\": {\"vocab\": {\"a\": -1}}}", "no id"),
        ("{\"model\": {\"vocab\": {\"a\": 0}}, \"added_tokens\": [{\"id\": 1, \"content\": \"a\"}]}", "has the ids"),
    ] {
        std::fs::write(&path, change).unwrap();
        let error = plan(dir.path(), &union).map(|_| change).unwrap_err();
        assert!(error.contains("B/tokenizer.json") && error.contains(part), "{change}\n{error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(plan(dir.path(), &union).unwrap_err().contains("a copy of its file"));
}

#[test]
fn a_head_that_is_one_number_is_refused() {
    let data = fixture("tokenizers.json");
    let dir = TempDir::new().unwrap();
    models(dir.path(), &data);
    for name in ["A", "B"] {
        let path = dir.path().join(name);
        let config = json_of(&path.join("config.json"));
        let rows = config["vocab_size"].as_u64().unwrap() as usize;
        let tensors = [
            (EMBED.to_owned(), Dtype::F32, vec![rows, 4], noise(1, rows * 4)),
            ("lm_head.bias".to_owned(), Dtype::F32, Vec::new(), vec![1.0]),
        ];
        write_model(&path, &tensors, &config);
    }
    let yaml =
        "models:\n- model: A\n- model: B\nmerge_method: linear\nparameters: {weight: 1}\ntokenizer_source: union\n";
    let error = plan(dir.path(), yaml).unwrap_err();
    assert!(error.contains("lm_head.bias") && error.contains("it is a single number"), "{error}");
}

#[test]
fn ids_that_are_left_out_are_padding_and_refuse_new_tokens() {
    let (data, dir) = (fixture("tokenizers.json"), TempDir::new().unwrap());
    models(dir.path(), &data);
    let path = dir.path().join("A/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"ab\":4", "\"ab\":6");
    std::fs::write(&path, text).unwrap();
    let yaml = data["cases"][0]["yaml"].as_str().unwrap();
    let plan_of = plan(dir.path(), yaml).unwrap();
    let out = dir.path().join("out");
    run(&plan_of, &out);
    let values = Checkpoint::open(&out).unwrap().tensor(EMBED).unwrap().to_f32().unwrap().into_owned();
    assert_eq!(values.len(), 7 * 4);
    let mean = |column: usize| [0, 1, 2, 3, 6].iter().map(|row| f64::from(values[row * 4 + column])).sum::<f64>() / 5.0;
    assert!((0..4).all(|column| (f64::from(values[4 * 4 + column]) - mean(column)).abs() < 1e-6));
    let error = plan(dir.path(), &yaml.replace("base\n", "union\n")).unwrap_err();
    assert!(error.contains("some ids are left out"), "{error}");
}

#[test]
fn templates_are_chosen_by_name_by_number_or_as_text() {
    let (data, dir) = (fixture("tokenizers.json"), TempDir::new().unwrap());
    models(dir.path(), &data);
    std::fs::write(dir.path().join("B/chat_template.jinja"), "{{ 'C' }}\n").unwrap();
    let recipe = |template: &str| {
        format!(
            "models: [{{model: A}}, {{model: B}}, {{model: C}}]\nmerge_method: linear\nparameters: {{weight: 1}}\ntokenizer_source: base\nchat_template: {template}\n"
        )
    };
    for (wanted, found) in [
        ("auto", "{{ 'C' }}"),
        ("chatml", "<|im_start|>"),
        ("\"{% for m in messages %}{{ m.content }}{% endfor %}\"", "{{ m.content }}"),
    ] {
        let plan = plan(dir.path(), &recipe(wanted)).unwrap();
        let out = dir.path().join("out");
        run(&plan, &out);
        let own = std::fs::read_to_string(out.join("chat_template.jinja")).unwrap();
        assert!(own.contains(found), "{wanted}: {own}");
        assert_eq!(json_of(&out.join("tokenizer_config.json"))["chat_template"], own);
        assert_eq!(json_of(&out.join("tokenizer_config.json"))["eos_token"], "c");
        std::fs::remove_dir_all(&out).unwrap();
    }
    let error = plan(dir.path(), &recipe("chatlm")).unwrap_err();
    assert!(error.contains("chat_template") && error.contains("chatml, exaone"), "{error}");
}
