//! Which codec a recipe chooses.

use std::collections::BTreeMap;

use checkpoint::{Packed, Plan, Recipe, Rule};

use crate::support::packed::{noise, pack, registry};
use crate::support::{Dir, Raw, assert_says, floats, model};

const TEXT: &str = r#"
default = "lossless.raw"
exclude = ["^head"]

[[rule]]
name = 'layers\.\d+'
min_rank = 2
max_rank = 2
dtype = ["F32"]
codec = "quant.int:bits=4:group=32"

[[rule]]
min_weights = 4
max_weights = 8
codec = "lossless.zstd"

[[rule]]
name = "layers"
codec = "quant.int"
"#;

#[test]
fn the_first_rule_that_matches_counts() {
    let dir = Dir::new();
    let tensors: Vec<Raw<'_>> = vec![
        ("layers.7.up", "F32", &[2, 2], floats(&[0.5, -1.0, 2.0, 0.25])),
        ("layers.7.norm", "F32", &[3], floats(&[0.5, -1.0, 2.0])),
        ("layers.x.up", "F32", &[3, 3], floats(&[0.5; 9])),
        ("layers.7.half", "BF16", &[2, 2], noise(8)),
        ("layers.7.ids", "I32", &[3], noise(12)),
        ("head.layers.7", "F32", &[2, 2], floats(&[0.5, -1.0, 2.0, 0.5])),
        ("other", "F32", &[3], floats(&[0.5; 3])),
    ];
    let source = dir.write("model.safetensors", model(&tensors));
    let recipe = Recipe::from_toml("test", TEXT).unwrap();
    let target = pack(&source, &dir.path().join("m.nw.safetensors"), &recipe);
    let packed = Packed::open(&target, &registry()).unwrap();
    let found: BTreeMap<&str, String> = packed
        .tensors()
        .map(|tensor| (tensor.name(), registry().spec_of(&*tensor.chunks().next().unwrap().encoded().codec)))
        .collect();
    let codec = |name: &str| found[name].split(":symmetric").next().unwrap();
    assert_eq!(codec("layers.7.up"), "quant.int:bits=4:group=32");
    assert_eq!(codec("layers.7.norm"), "quant.int:bits=8:group=row");
    assert_eq!(codec("layers.x.up"), "quant.int:bits=8:group=row");
    assert_eq!(codec("layers.7.half"), "lossless.zstd:level=3");
    assert_eq!(codec("layers.7.ids"), "lossless:level=fast", "quant.int refuses integers");
    assert_eq!(codec("head.layers.7"), "lossless:level=fast");
    assert_eq!(codec("other"), "lossless.raw");
    let refused = packed.tensor("layers.7.ids").unwrap().chunks().next().unwrap().refused().unwrap().to_owned();
    assert!(refused.contains("dtype I32"), "{refused}");
    let stored: Recipe = serde_json::from_str(packed.recipe()).unwrap();
    assert_eq!(stored, recipe, "the file tells its recipe");
}

#[test]
fn only_included_tensors_follow_the_rules() {
    let dir = Dir::new();
    let tensor = |name| (name, "F32", &[2, 4][..], floats(&[0.5, -1.0, 2.0, 0.25, 0.5, -1.0, 2.0, 0.3]));
    let source = dir.write("model.safetensors", model(&[tensor("a.up"), tensor("a.down"), tensor("b.up")]));
    let mut recipe = Recipe::for_matrices("quant.int");
    (recipe.include, recipe.exclude) = (vec!["^a".to_owned(), "^c".to_owned()], vec!["down".to_owned()]);
    let packed = Packed::open(pack(&source, &dir.path().join("m.nw.safetensors"), &recipe), &registry()).unwrap();
    let exact = packed.tensors().filter(|tensor| tensor.certificate().exact).map(|tensor| tensor.name());
    assert_eq!(exact.collect::<Vec<_>>(), ["a.down", "b.up"]);
}

#[test]
fn toml_and_json_are_the_same_recipe() {
    let recipe = Recipe::from_toml("test", TEXT).unwrap();
    let json = serde_json::to_string(&recipe).unwrap();
    assert_eq!(Recipe::from_json("test", &json).unwrap(), recipe);
    let dir = Dir::new();
    for (name, text) in [("recipe.toml", TEXT), ("recipe.json", &json), ("recipe", TEXT)] {
        let path = dir.write(name, text);
        assert_eq!(Recipe::load(path.to_str().unwrap()).unwrap(), recipe, "{name}");
    }
    assert_eq!(Recipe::from_toml("empty", "").unwrap(), Recipe::default());
}

#[test]
fn built_in_recipes_are_found_by_name() {
    let names: Vec<_> = Recipe::names().collect();
    assert_eq!(
        names,
        [
            "lossless",
            "int8",
            "q4",
            "nf4",
            "quanto_int8",
            "quanto_int4",
            "trellis-4bit",
            "trellis-3bit",
            "trellis-2bit",
            "seedlm-4bit",
            "progressive",
            "gptq_quality",
            "gptq_balanced",
            "gptq_size",
            "imatrix:q2_k",
            "imatrix:q3_k",
            "imatrix:q4_0",
            "imatrix:q4_1",
            "imatrix:q4_k",
            "imatrix:q5_0",
            "imatrix:q5_1",
            "imatrix:q5_k",
            "imatrix:q6_k",
            "imatrix:iq4_nl",
            "imatrix:iq4_xs",
            "awq_quality",
            "awq_balanced"
        ]
    );
    for name in names {
        assert_eq!(Recipe::load(name).unwrap(), Recipe::built_in(name).unwrap());
    }
    assert_eq!(Recipe::built_in("lossless").unwrap(), Recipe::default());
    assert_says(&Recipe::load("int9").unwrap_err(), &["int9", "lossless, int8", "no readable file"]);
}

#[test]
fn a_recipe_with_a_method_is_not_planned_without_statistics() {
    let dir = Dir::new();
    let source = dir.write("model.safetensors", model(&[("a", "F32", &[2, 4], floats(&[0.5; 8]))]));
    let mut recipe = Recipe::from_toml("test", "method = 'feedback'").unwrap();
    let plan = |recipe: &Recipe| Plan::new(&source, dir.path().join("m.nw.safetensors"), recipe, 0, &registry());
    assert_says(&plan(&recipe).unwrap_err(), &["model.safetensors", "netweight calibrate", "--calibration"]);
    recipe.calibration = Some("statistics".to_owned());
    assert!(plan(&recipe).is_ok());
    assert_says(&Recipe::from_toml("test", "method = 'magic'").unwrap_err(), &["magic", "feedback"]);
}

#[test]
fn wrong_recipes_are_refused_by_name() {
    for (text, parts) in [
        ("defualt = 'lossless'", &["test", "defualt"][..]),
        ("[[rule]]\nname = 'x'", &["codec"]),
        ("[[rule]]\ncodec = 'lossless'\nmin_rank = -1", &["min_rank"]),
        ("[[rule]]\ncodec = 'lossless'\ndtype = ['F31']", &["F31"]),
        ("default = ", &["test"]),
    ] {
        assert_says(&Recipe::from_toml("test", text).unwrap_err(), parts);
    }
    let dir = Dir::new();
    let source = dir.write("model.safetensors", model(&[("a", "U8", &[1], vec![0])]));
    let target = dir.path().join("m.nw.safetensors");
    let plan = |recipe: &Recipe| Plan::new(&source, &target, recipe, 0, &registry()).unwrap_err();
    let mut recipe = Recipe::default();
    recipe.rules.push(Rule::of_names("x", "quant.itn"));
    assert_says(&plan(&recipe), &["quant.itn", "unknown codec"]);
    recipe.rules[0] = Rule::of_names("(", "lossless");
    assert_says(&plan(&recipe), &["recipe `(`"]);
}
