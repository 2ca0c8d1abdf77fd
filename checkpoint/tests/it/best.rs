//! Codecs chosen by trial.

use std::fs;

use checkpoint::{Checkpoint, Packed, Plan, Recipe, Tried};
use codec_api::{NoProgress, Registry};

use crate::support::packed::{gaussian, pack, registry};
use crate::support::{Dir, Raw, assert_says, floats, model};

const SIDE: usize = 96;

/// The product of two matrices of three columns.
fn low_rank() -> Vec<f32> {
    let (u, v) = (gaussian(3 * SIDE, 5), gaussian(3 * SIDE, 6));
    let value = |i: usize, j: usize| (0..3).map(|k| u[3 * i + k] * v[3 * j + k]).sum();
    (0..SIDE * SIDE).map(|at| value(at / SIDE, at % SIDE)).collect()
}

/// One weight of fifty, 1 or −1.
fn sparse() -> Vec<f32> {
    let value = |v: &f32| if v.abs() > 2.33 { v.signum() } else { 0.0 };
    gaussian(SIDE * SIDE, 7).iter().map(value).collect()
}

fn tensors() -> Vec<Raw<'static>> {
    vec![
        ("bias", "F32", &[SIDE], floats(&gaussian(SIDE, 2))),
        ("constant", "F32", &[SIDE, SIDE], floats(&[0.5; SIDE * SIDE])),
        ("gaussian", "F32", &[SIDE, SIDE], floats(&gaussian(SIDE * SIDE, 3))),
        ("low-rank", "F32", &[SIDE, SIDE], floats(&low_rank())),
        ("sparse", "F32", &[SIDE, SIDE], floats(&sparse())),
        ("tied", "F32", &[SIDE, SIDE], floats(&low_rank())),
    ]
}

fn packed(dir: &Dir, recipe: &Recipe) -> Packed {
    let source = dir.write("model.safetensors", model(&tensors()));
    Packed::open(pack(&source, &dir.path().join("m.nw.safetensors"), recipe), &registry()).unwrap()
}

/// Name of the codec that encodes a tensor.
fn codec(packed: &Packed, name: &str) -> String {
    let chunk = packed.tensor(name).unwrap().chunks().next().unwrap();
    chunk.codec().typetag_name().to_owned()
}

#[test]
fn the_smallest_within_the_error_is_taken() {
    let dir = Dir::new();
    let packed = packed(&dir, &Recipe::for_matrices("best:error=0.01"));
    let found = |name| codec(&packed, name);
    assert_eq!(found("bias"), "lossless", "the recipe stores vectors exactly");
    assert_eq!(found("gaussian"), "trellis");
    assert_eq!(found("low-rank"), "lowrank.svd");
    assert_eq!(found("tied"), "lowrank.svd");
    assert_eq!(found("constant"), "lossless");
    assert_eq!(found("sparse"), "lossless", "its planes take less than positions");
    assert!(packed.tensor("bias").unwrap().tried().is_empty());
    for tensor in packed.tensors().filter(|tensor| tensor.name() != "bias") {
        assert!(tensor.certificate().rel_frobenius() <= 0.01, "{}", tensor.name());
        let tried = tensor.tried();
        let fits = |tried: &&Tried| tried.error.is_some_and(|error| error <= 0.01);
        let least = tried.iter().filter(fits).filter_map(|tried| tried.bytes).min();
        assert_eq!(tried[0].bytes, least, "{}", tensor.name());
        assert_eq!(tried[0].error, Some(tensor.certificate().rel_frobenius()), "{}", tensor.name());
        if tensor.same_as().is_none() {
            assert_eq!(tried[0].bytes, Some(tensor.bytes()), "{}: the trial is what is written", tensor.name());
        }
    }
    let bits = 8.0 * packed.tensor("constant").unwrap().bytes() as f64 / (SIDE * SIDE) as f64;
    assert!(bits < 0.1, "{bits} bits per weight of a constant tensor");
}

#[test]
fn what_was_tried_is_what_the_codec_alone_gives() {
    let dir = Dir::new();
    let all = packed(&dir, &Recipe::for_matrices("best:error=0.01"));
    let tried = all.tensor("gaussian").unwrap().tried().to_vec();
    for tried in tried.iter().filter(|tried| tried.bytes.is_some()) {
        let alone = packed(&dir, &Recipe::for_matrices(&tried.codec));
        let tensor = alone.tensor("gaussian").unwrap();
        assert_eq!(Some(tensor.bytes()), tried.bytes, "{}", tried.codec);
        assert_eq!(Some(tensor.certificate().rel_frobenius()), tried.error, "{}", tried.codec);
    }
}

#[test]
fn the_best_within_the_bits_is_taken() {
    let dir = Dir::new();
    let packed = packed(&dir, &Recipe::for_matrices("best:bits=3"));
    assert_eq!(codec(&packed, "gaussian"), "trellis");
    for name in ["constant", "sparse"] {
        assert!(packed.tensor(name).unwrap().certificate().nmse() == 0.0, "{name} takes little without any loss");
    }
    for tensor in packed.tensors().filter(|tensor| tensor.name() != "bias") {
        let bits = 8.0 * tensor.bytes() as f64 / tensor.spec().elements() as f64;
        assert!(bits <= 3.0, "{}: {bits}", tensor.name());
    }
}

#[test]
fn a_goal_that_no_candidate_keeps() {
    let dir = Dir::new();
    let mut recipe = Recipe::for_matrices("best:error=0.0001");
    recipe.candidates = vec!["quant.int:bits=4".to_owned(), "quant.int:bits=8".to_owned(), "quant.q4_0".to_owned()];
    let found = packed(&dir, &recipe);
    let tensor = found.tensor("gaussian").unwrap();
    assert_eq!(codec(&found, "gaussian"), "lossless");
    let tried: Vec<_> = tensor.tried().iter().map(|tried| tried.codec.as_str()).collect();
    assert_eq!(tried, ["lossless", "quant.int:bits=4", "quant.int:bits=8", "quant.q4_0"]);
    assert_eq!((tensor.tried()[0].bytes, tensor.tried()[0].error), (Some(tensor.bytes()), Some(0.0)));
    recipe.rules[0].codec = "best:bits=1".to_owned();
    let found = packed(&dir, &recipe);
    assert_eq!(found.tensor("gaussian").unwrap().tried()[0].codec, "quant.int:bits=4", "the smallest");
}

#[test]
fn a_large_tensor_is_tried_in_a_sample_first() {
    let dir = Dir::new();
    let (rows, columns) = (1025, 1024);
    let values: Vec<f32> = gaussian(columns, 9)
        .iter()
        .cycle()
        .take(rows * columns)
        .enumerate()
        .map(|(i, v)| v * (1.0 + (i % 7) as f32 / 70.0))
        .collect();
    let source = dir.write("model.safetensors", model(&[("w", "F32", &[rows, columns], floats(&values))]));
    let mut recipe = Recipe::for_matrices("best:error=0.1");
    recipe.candidates =
        vec!["quant.int:bits=8".to_owned(), "quant.int:bits=5".to_owned(), "quant.int:bits=2".to_owned()];
    let packed = Packed::open(pack(&source, &dir.path().join("m.nw.safetensors"), &recipe), &registry()).unwrap();
    let tensor = packed.tensor("w").unwrap();
    let tried: Vec<_> = tensor.tried().iter().map(|tried| (tried.codec.as_str(), tried.sample)).collect();
    assert_eq!(tried, [("quant.int:bits=5", false), ("quant.int:bits=8", true), ("quant.int:bits=2", true)]);
    assert_eq!(tensor.tried()[0].bytes, Some(tensor.bytes()));
    assert_eq!(tensor.tried()[0].error, Some(tensor.certificate().rel_frobenius()));
}

#[test]
fn the_choice_is_in_the_plan_and_the_same_everywhere() {
    let dir = Dir::new();
    let source = dir.write("model.safetensors", model(&tensors()));
    let (registry, recipe) = (registry(), Recipe::for_matrices("best:error=0.05"));
    let run = |name: &str, plan: Plan| {
        plan.run(&registry, &NoProgress).unwrap();
        plan.commit(&registry, Some(&NoProgress)).unwrap();
        fs::read(dir.path().join(name)).unwrap()
    };
    let plan = |name: &str| Plan::new(&source, dir.path().join(name), &recipe, 7, &registry).unwrap();
    let once = run("1.nw.safetensors", plan("1.nw.safetensors"));
    let file = dir.path().join("plan.json");
    plan("2.nw.safetensors").save(&file).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"tried\":[{\"codec\":\"trellis:"), "{text}");
    assert_eq!(run("2.nw.safetensors", Plan::load(&file).unwrap()), once);
    Checkpoint::open(&source).unwrap();
}

#[test]
fn wrong_goals_and_candidates_are_refused_by_name() {
    let dir = Dir::new();
    let source = dir.write("model.safetensors", model(&[("a", "F32", &[1, 1], floats(&[0.5]))]));
    let target = dir.path().join("m.nw.safetensors");
    let refused = |recipe: &Recipe, registry: &Registry| Plan::new(&source, &target, recipe, 0, registry).unwrap_err();
    for spec in ["best", "best:", "best:error", "best:error=2", "best:error=-1", "best:bits=x", "best:error=0.1:bits=3"]
    {
        assert_says(&refused(&Recipe::for_matrices(spec), &registry()), &[spec, "`best` has one key"]);
    }
    assert_says(&refused(&Recipe::for_matrices("bestest"), &registry()), &["unknown codec `bestest`"]);
    let mut recipe = Recipe::for_matrices("best:error=0.1");
    for (candidate, reason) in [
        ("quant.itn", "unknown codec"),
        ("trellis:error={mse}", "its placeholders are"),
        ("trellis:error={nmse}:bits={bits}", "its placeholders are"),
        ("trellis:err={nmse}", "err"),
    ] {
        recipe.candidates = vec![candidate.to_owned()];
        assert_says(&refused(&recipe, &registry()), &[candidate, reason]);
    }
}
