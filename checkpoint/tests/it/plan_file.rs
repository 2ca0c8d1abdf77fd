//! The file of a plan is as `docs/plan.md` shows it.

use std::fs;

use checkpoint::{Plan, Recipe};
use codec_api::NoProgress;
use serde_json::Value;

use crate::support::packed::{noise, registry};
use crate::support::{Dir, assert_says, floats, model};

const DOCS: &str = include_str!("../../../docs/plan.md");

const RECIPE: &str = r#"{"rule":[{"min_rank":2,"codec":"quant.int:bits=8:group=row"}]}"#;

/// The model of the example, and its plan's file.
fn made(dir: &Dir) -> Value {
    let embedding: Vec<f32> = (0..640).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let tensors = [
        ("embed.weight", "F32", &[10, 64][..], floats(&embedding)),
        ("norm.weight", "F32", &[64], floats(&embedding[..64])),
        ("mask", "BOOL", &[2, 8], noise(16).iter().map(|byte| byte & 1).collect()),
        ("lm_head.weight", "F32", &[10, 64], floats(&embedding)),
    ];
    dir.write("my-model/model.safetensors", model(&tensors));
    dir.write("my-model/config.json", "{}");
    let recipe = Recipe::from_json("example", RECIPE).unwrap();
    let plan = Plan::new(dir.path().join("my-model"), dir.path().join("packed"), &recipe, 0, &registry()).unwrap();
    plan.save(&dir.path().join("plan.json")).unwrap();
    serde_json::from_str(&fs::read_to_string(dir.path().join("plan.json")).unwrap()).unwrap()
}

fn example() -> Value {
    let text = DOCS.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_documented_example_is_the_plan_of_its_model() {
    let dir = Dir::new();
    let mut found = made(&dir);
    found["source"]["directory"] = "/models/my-model".into();
    found["source"]["files"][0]["modified"] = 1_767_225_600_000_000_000_u64.into();
    found["target"] = "/models/packed/model.nw.safetensors".into();
    assert_eq!(found, example(), "the plan is\n{found:#}");
}

#[test]
fn every_key_is_described() {
    for (key, value) in example().as_object().unwrap() {
        let keys: Vec<_> = match value.as_object() {
            Some(inner) if key == "source" => inner.keys().map(|inner| format!("{key}.{inner}")).collect(),
            _ => vec![key.clone()],
        };
        for key in keys {
            assert!(DOCS.contains(&format!("`{key}`")), "`{key}` is not in the table");
        }
    }
}

#[test]
fn plans_from_files_are_checked() {
    let dir = Dir::new();
    let plan = made(&dir);
    let refused = |edit: &dyn Fn(&mut Value), part: &str| {
        let mut plan = plan.clone();
        edit(&mut plan);
        let path = dir.write("edited.json", plan.to_string());
        assert_says(&Plan::load(&path).unwrap_err(), &["edited.json", part]);
    };
    refused(&|plan| plan["companions"][0] = "../config.json".into(), "not a plain path below a directory");
    refused(&|plan| plan["program"] = "netweight 0.0.1".into(), "`netweight 0.0.1` made it, and this is `netweight");
    refused(&|plan| plan["version"] = 2.into(), "version");
    refused(&|plan| plan["strange"] = 2.into(), "strange");
    refused(&|plan| plan["units"][0][0][0] = 9.into(), "its units have chunk [9, 0] instead of [0, 0]");
}

#[test]
fn the_commit_copies_the_files_beside_the_model() {
    let dir = Dir::new();
    made(&dir);
    let plan = Plan::load(&dir.path().join("plan.json")).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    assert!(!dir.path().join("packed/config.json").exists());
    plan.commit(&registry(), Some(&NoProgress)).unwrap();
    assert_eq!(fs::read(dir.path().join("packed/config.json")).unwrap(), b"{}");
    assert_eq!(plan.places(), ["my-model", "packed"].map(|name| dir.path().canonicalize().unwrap().join(name)));
    // Without its source file, a companion that is missing is named.
    fs::remove_dir_all(dir.path().join("packed")).unwrap();
    fs::remove_file(dir.path().join("my-model/config.json")).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    assert_says(&plan.commit(&registry(), None).unwrap_err(), &["my-model/config.json", "does not exist"]);
}
