//! Whole merges: files, resumption, packed inputs, and the same bits with any number of threads.

use std::path::Path;

use checkpoint::Checkpoint;
use codec_api::{Cancel, Dtype, NoProgress, Registry};
use codecs as _;
use merge::{Plan, PlanOptions, Recipe, RunOptions};
use tempfile::TempDir;

use crate::support::{config, llama, write_model};

/// Methods and their parameters.
pub const METHODS: [(&str, &str); 16] = [
    ("task_arithmetic", "weight: 0.5"),
    ("ties", "weight: 0.5, density: 0.3"),
    ("dare_ties", "weight: 0.5, density: 0.5"),
    ("dare_linear", "weight: 0.5, density: 0.5"),
    ("breadcrumbs", "weight: 0.5, density: 0.5"),
    ("breadcrumbs_ties", "weight: 0.5, density: 0.5, gamma: 0.1"),
    ("della", "weight: 0.5, density: 0.5"),
    ("della_linear", "weight: 0.5, density: 0.5, epsilon: 0.1"),
    ("model_stock", ""),
    ("model_stock", "filter_wise: true"),
    ("sce", "select_topk: 0.5"),
    ("multislerp", "weight: 0.5"),
    ("karcher", ""),
    ("nuslerp", "weight: 0.5"),
    ("nuslerp", "weight: 0.5, nuslerp_flatten: false"),
    ("nuslerp", "weight: 0.5, nuslerp_flatten: false, nuslerp_row_wise: true"),
];

pub fn models(dir: &Path, dtype: Dtype) {
    for (seed, name) in [(1, "A"), (2, "B"), (3, "C")] {
        write_model(&dir.join(name), &llama(seed, 3, dtype, true), &config(3, true));
        std::fs::write(dir.join(name).join("tokenizer.json"), format!("{{\"of\":\"{name}\"}}")).unwrap();
    }
}

pub fn recipe(dir: &Path, method: &str, parameters: &str) -> Recipe {
    let at = dir.display();
    Recipe::from_yaml(&format!(
        "models:\n- model: {at}/B\n- model: {at}/C\nbase_model: {at}/A\nmerge_method: {method}\nparameters: {{{parameters}}}\n"
    ))
    .unwrap()
}

pub fn plan(recipe: Recipe, seed: u64) -> Plan {
    Plan::new(recipe, PlanOptions { seed, dtype: None }, &Registry::linked().unwrap()).unwrap()
}

pub fn run(plan: &Plan, out: &Path, threads: usize, shard: u64) -> merge::Ran {
    let cancel = Cancel::new();
    let mut options = RunOptions::new(&cancel, &NoProgress);
    options.max_shard_size = shard;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| merge::run(plan, out, &options)).unwrap()
}

#[test]
fn every_method_runs_and_threads_do_not_matter() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::BF16);
    for (method, parameters) in METHODS {
        let plan = plan(recipe(dir.path(), method, parameters), 7);
        let [one, many] = ["one", "many"].map(|name| dir.path().join(format!("{method}-{name}")));
        run(&plan, &one, 1, u64::MAX);
        run(&plan, &many, 3, 4000);
        let [one, many] = [one, many].map(|path| Checkpoint::open(path).unwrap());
        assert!(many.files().len() > 1);
        assert_eq!(one.hash().unwrap(), many.hash().unwrap(), "{method}");
        assert_eq!(one.len(), 18);
        std::fs::remove_dir_all(dir.path().join(format!("{method}-one"))).unwrap();
        std::fs::remove_dir_all(dir.path().join(format!("{method}-many"))).unwrap();
    }
}

#[test]
fn seeds_decide_the_masks() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::F32);
    let hash = |seed, name: &str| {
        let out = dir.path().join(name);
        run(&plan(recipe(dir.path(), "dare_ties", "weight: 1, density: 0.5"), seed), &out, 2, u64::MAX);
        Checkpoint::open(out).unwrap().hash().unwrap()
    };
    let first = hash(1, "x");
    assert_eq!(first, hash(1, "y"));
    assert_ne!(first, hash(2, "z"));
}

#[test]
fn the_configuration_and_the_tokenizer_come_along() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::BF16);
    let out = dir.path().join("out");
    run(&plan(recipe(dir.path(), "ties", "weight: 1"), 0), &out, 2, u64::MAX);
    let text = std::fs::read_to_string(out.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["tie_word_embeddings"], false);
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(std::fs::read_to_string(out.join("tokenizer.json")).unwrap(), "{\"of\":\"A\"}");
    let names = std::fs::read_dir(&out).unwrap().count();
    assert_eq!(names, 3, "nothing else is left");
}

#[test]
fn finished_files_are_kept() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::F32);
    let (plan, out) = (plan(recipe(dir.path(), "ties", "weight: 1, density: 0.5"), 0), dir.path().join("out"));
    let all = run(&plan, &out, 2, 3000);
    assert_eq!(all.kept, 0);
    let hash = Checkpoint::open(&out).unwrap().hash().unwrap();
    std::fs::remove_file(out.join(format!("model-00002-of-{:05}.safetensors", all.files))).unwrap();
    let again = run(&plan, &out, 2, 3000);
    assert_eq!((again.kept, again.files), (all.files - 1, all.files));
    assert_eq!(Checkpoint::open(&out).unwrap().hash().unwrap(), hash);
    let other = self::plan(recipe(dir.path(), "ties", "weight: 1, density: 0.6"), 0);
    assert_eq!(run(&other, &out, 2, 3000).kept, 0, "another recipe keeps nothing");
}

#[test]
fn a_cancelled_run_says_so_and_goes_on_later() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::F32);
    let (plan, out) = (plan(recipe(dir.path(), "ties", "weight: 1, density: 0.5"), 0), dir.path().join("out"));
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(merge::run(&plan, &out, &RunOptions::new(&cancel, &NoProgress)).is_err());
    assert!(merge::is_unfinished(&plan, &out) && !out.join("model.safetensors").exists());
    run(&plan, &out, 1, u64::MAX);
    assert!(!merge::is_unfinished(&plan, &out));
}

#[test]
fn an_infinity_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::F32);
    let mut tensors = llama(2, 3, Dtype::F32, true);
    tensors[3].3[5] = f32::INFINITY;
    write_model(&dir.path().join("B"), &tensors, &config(3, true));
    let plan = plan(recipe(dir.path(), "task_arithmetic", "weight: 1"), 0);
    let cancel = Cancel::new();
    let error = merge::run(&plan, &dir.path().join("out"), &RunOptions::new(&cancel, &NoProgress)).unwrap_err();
    assert!(error.to_string().contains("element 5") && error.to_string().contains(&tensors[3].0), "{error}");
}

#[test]
fn packed_models_are_inputs() {
    let dir = TempDir::new().unwrap();
    models(dir.path(), Dtype::BF16);
    let registry = Registry::linked().unwrap();
    let packed = dir.path().join("P");
    let lossless = checkpoint::Recipe::load("lossless").unwrap();
    let packing = checkpoint::Plan::new(dir.path().join("B"), &packed, &lossless, 0, &registry).unwrap();
    packing.run(&registry, &NoProgress).unwrap();
    packing.commit(&registry, None).unwrap();
    let dense = plan(recipe(dir.path(), "ties", "weight: 1, density: 0.5"), 0);
    run(&dense, &dir.path().join("dense"), 2, u64::MAX);
    std::fs::rename(&packed, dir.path().join("B2")).unwrap();
    let text = serde_json::to_string(&recipe(dir.path(), "ties", "weight: 1, density: 0.5")).unwrap();
    let text = text.replace(&format!("{}/B\"", dir.path().display()), &format!("{}/B2\"", dir.path().display()));
    run(&plan(Recipe::from_yaml(&text).unwrap(), 0), &dir.path().join("mixed"), 2, u64::MAX);
    let [one, two] = ["dense", "mixed"].map(|name| Checkpoint::open(dir.path().join(name)).unwrap().hash().unwrap());
    assert_eq!(one, two);
}
