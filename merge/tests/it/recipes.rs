//! Recipes: parameters by layer and name, slices, and what is refused.

use std::path::Path;

use codec_api::{Dtype, Registry};
use merge::{Method, Operation, Plan, PlanOptions, Recipe};
use tempfile::TempDir;

use crate::support::{config, fixture, llama, write_model};

fn models(layers: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (seed, name) in [(1, "A"), (2, "B"), (3, "C")] {
        write_model(&dir.path().join(name), &llama(seed, layers, Dtype::F32, true), &config(layers, false));
    }
    write_model(&dir.path().join("tied"), &llama(4, layers, Dtype::F32, false), &config(layers, true));
    dir
}

fn plan(dir: &Path, yaml: &str) -> Result<Plan, String> {
    // The models of recipes are relative to the working directory.
    let mut text = yaml.to_owned();
    for name in ["A", "B", "C", "tied", "none"] {
        for key in ["model: ", "base_model: "] {
            text = text.replace(&format!("{key}{name}\n"), &format!("{key}{}/{name}\n", dir.display()));
            text = text.replace(&format!("{key}{name},"), &format!("{key}{}/{name},", dir.display()));
        }
    }
    let recipe = Recipe::from_yaml(&text)?;
    Plan::new(recipe, PlanOptions::default(), &Registry::linked().unwrap()).map_err(|error| error.to_string())
}

fn operation<'p>(plan: &'p Plan, name: &str) -> &'p Operation {
    &plan.tensors().iter().find(|tensor| tensor.name == name).unwrap().operation
}

#[test]
fn gradients_are_those_of_the_table() {
    let data = fixture("recipes.json");
    for row in data["gradient"]["rows"].as_array().unwrap() {
        let (layers, layer) = (row[1].as_u64().unwrap() as usize, row[2].as_u64().unwrap());
        if layers > 5 {
            continue;
        }
        let dir = models(layers);
        let yaml = format!(
            "models:\n  - model: A\n    parameters: {{weight: {}}}\nparameters: {{normalize: false}}\nmerge_method: linear\n",
            row[0]
        );
        let plan = plan(dir.path(), &yaml).unwrap();
        let Operation::Merge { method: Method::Linear { weights, .. }, .. } =
            operation(&plan, &format!("model.layers.{layer}.mlp.up_proj.weight"))
        else {
            panic!("linear")
        };
        assert!((weights[0] - row[3].as_f64().unwrap()).abs() < 1e-12, "{row}: {weights:?}");
    }
}

#[test]
fn filters_choose_by_name_and_layer() {
    let (data, dir) = (fixture("recipes.json"), models(5));
    let plan = plan(dir.path(), data["recipe"]["yaml"].as_str().unwrap()).unwrap();
    for (name, weight) in data["recipe"]["effective_weight_of_B"].as_object().unwrap() {
        let Operation::Merge { method: Method::Task(task), models, base } = operation(&plan, name) else { panic!() };
        assert_eq!((task.models.len(), models.len()), (1, 1));
        assert_eq!(base.as_ref().map(|base| base.model), Some(0));
        assert!((task.models[0].weight - weight.as_f64().unwrap()).abs() < 1e-12, "{name}");
    }
}

#[test]
fn slices_are_put_together() {
    let (data, dir) = (fixture("recipes.json"), models(5));
    let plan = plan(dir.path(), data["passthrough"]["yaml"].as_str().unwrap()).unwrap();
    let from = |name: &str| match operation(&plan, name) {
        Operation::Merge { method: Method::Passthrough { scale }, models, .. } => {
            (models[0].model, models[0].tensor.clone(), *scale)
        }
        _ => panic!("{name}"),
    };
    assert_eq!(from("model.embed_tokens.weight").0, 0);
    assert_eq!(from("model.norm.weight").0, 1);
    assert_eq!(from("lm_head.weight").0, 1);
    assert_eq!(from("model.layers.2.mlp.up_proj.weight"), (0, "model.layers.2.mlp.up_proj.weight".into(), None));
    assert_eq!(from("model.layers.3.mlp.up_proj.weight"), (1, "model.layers.1.mlp.up_proj.weight".into(), Some(1.0)));
    assert_eq!(from("model.layers.6.mlp.up_proj.weight").1, "model.layers.4.mlp.up_proj.weight");
    assert_eq!(
        from("model.layers.4.mlp.down_proj.weight"),
        (1, "model.layers.2.mlp.down_proj.weight".into(), Some(0.0))
    );
    assert!(plan.notes().iter().any(|note| note.contains("`num_hidden_layers` of the configuration becomes 7")));
}

#[test]
fn one_module_is_the_model() {
    let dir = models(2);
    let yaml = "modules:\n  default:\n    models:\n      - model: A\n      - model: B\n        parameters: {weight: 3}\n    \
                parameters: {weight: 2}\nparameters: {weight: 1, normalize: false}\nmerge_method: linear\n";
    let plan = plan(dir.path(), yaml).unwrap();
    let Operation::Merge { method: Method::Linear { weights, normalize }, .. } = operation(&plan, "lm_head.weight")
    else {
        panic!()
    };
    assert_eq!((&weights[..], *normalize), (&[2.0, 3.0][..], false));
}

#[test]
fn a_tied_head_is_said() {
    let dir = models(2);
    let yaml =
        "models:\n  - model: A\n  - model: tied\nparameters: {weight: 1}\nmerge_method: linear\nbase_model: tied\n";
    let plan = plan(dir.path(), yaml).unwrap();
    let Operation::Merge { models, .. } = operation(&plan, "lm_head.weight") else { panic!() };
    assert_eq!(models[1].tensor, "model.embed_tokens.weight");
    let notes = plan.notes().join("\n");
    assert!(notes.contains("stands for it") && notes.contains("`tie_word_embeddings` becomes false"), "{notes}");
}

#[test]
fn toml_has_the_same_keys() {
    let yaml = "merge_method: ties\nbase_model: A\nmodels:\n- model: A\n- model: B\n  parameters: {weight: [0, 1], density: 0.5}\nparameters: {lambda: 0.7}\n";
    let toml = "merge_method = 'ties'\nbase_model = 'A'\nmodels = [{model = 'A'}, {model = 'B', parameters = {weight = [0, 1], density = 0.5}}]\nparameters = {lambda = 0.7}\n";
    let [yaml, toml] =
        [Recipe::from_yaml(yaml), Recipe::from_toml(toml)].map(|r| serde_json::to_value(r.unwrap()).unwrap());
    assert_eq!(yaml, toml);
}

#[test]
fn what_has_no_meaning_is_refused() {
    let dir = models(2);
    let ties = |model: &str, rest: &str| {
        format!(
            "models:\n  - model: A\n  - model: B\n    parameters: {{{model}}}\nmerge_method: ties\nbase_model: A\n{rest}"
        )
    };
    for (yaml, parts) in [
        (ties("weight: 1", "merge_metod: x\n"), &["unknown field"][..]),
        (ties("weight: 1", "parameters: {densitiy: 1}\n"), &["parameters.densitiy", "`density`?"]),
        (ties("weight: 1, normalize: true", ""), &["models[1].parameters.normalize", "whole merge"]),
        (ties("weight: 1, density: 7", ""), &["models[1].parameters.density", "7 for `", "from 0 to 1"]),
        (ties("density: 1", ""), &["models[1].parameters.weight", "needs a weight", "/B`"]),
        (ties("weight: [[1]]", ""), &["models[1].parameters.weight", "finite numbers"]),
        (ties("weight: {filter: x}", ""), &["`value` is missing"]),
        (ties("weight: 1", "dtype: bfloat\n"), &["dtype", "bfloat16"]),
        (ties("weight: 1", "tokenizer_source: union\n"), &["tokenizer.json", "save_pretrained"]),
        (ties("weight: 1", "modules: {}\n"), &["modules", "one module"]),
        (ties("weight: 1", "modules: {default: {}}\n"), &["modules", "one of the three"]),
        (
            "merge_method: linear\nmodules: {vision_tower: {models: [{model: A}]}}\n".to_owned(),
            &["modules.vision_tower", "multimodal"],
        ),
        (
            "merge_method: linear\nmodules: {default: {models: [{model: A}], parameters: {wait: 1}}}\n".to_owned(),
            &["modules.default.parameters.wait"],
        ),
        (ties("weight: 1", "slices: []\n"), &["one of the two"]),
        ("models:\n  - model: A\nmerge_method: tie\n".to_owned(), &["merge_method", "(`ties`?)"]),
        ("models:\n  - model: none\nmerge_method: linear\n".to_owned(), &["no such file"]),
        ("models:\n  - model: A\n  - model: B\nmerge_method: slerp\nparameters: {t: 1}\n".to_owned(), &["base_model"]),
        ("models:\n  - model: A\n  - model: B\nmerge_method: slerp\nbase_model: A\n".to_owned(), &["parameters.t"]),
        (
            "slices:\n  - sources: [{model: A, layer_range: [0, 3]}]\nmerge_method: passthrough\n".to_owned(),
            &["slices[0].sources[0].layer_range", "0 to 2"],
        ),
        (
            "models:\n  - model: A\n  - model: B\nparameters: {weight: [{filter: mlp, value: 1}]}\nmerge_method: linear\n"
                .to_owned(),
            &["needs a weight", "for tensor `lm_head.weight`"],
        ),
    ] {
        let error = plan(dir.path(), &yaml).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{yaml}\n{error}");
    }
}

#[test]
fn differing_tensors_are_refused() {
    let dir = models(2);
    let mut more = llama(5, 2, Dtype::F32, true);
    more.push(("model.layers.0.self_attn.q_proj.bias".to_owned(), Dtype::F32, vec![16], vec![0.0; 16]));
    write_model(&dir.path().join("B"), &more, &config(2, false));
    let mut wide = llama(6, 2, Dtype::F32, true);
    (wide[0].2, wide[0].3) = (vec![21, 16], vec![0.0; 21 * 16]);
    write_model(&dir.path().join("C"), &wide, &config(2, false));
    let linear = |other: &str| {
        let yaml =
            format!("models:\n  - model: A\n  - model: {other}\nparameters: {{weight: 1}}\nmerge_method: linear\n");
        plan(dir.path(), &yaml).unwrap_err()
    };
    let error = linear("B");
    assert!(error.contains("q_proj.bias") && error.contains("/A`") && error.contains("it is missing"), "{error}");
    let error = linear("C");
    assert!(error.contains("[21, 16]") && error.contains("vocabular"), "{error}");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut yaml =
        "merge_method: linear\nmodels: [{model: A}]\nparameters:\n  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            .to_owned();
    for i in 1..12 {
        let before = vec![format!("*a{}", i - 1); 10].join(", ");
        yaml.extend([format!("  a{i}: &a{i} [{before}]\n")]);
    }
    assert!(Recipe::from_yaml(&yaml).is_err());
    assert!(Recipe::from_yaml(&format!("parameters: {}", "[".repeat(100_000))).is_err());
}
