//! Adapters against what PEFT made of them.

use std::path::Path;

use codec_api::{Dtype, Registry};
use merge::lora::{Adapter, Extract, decompose};
use merge::{Source, Stored};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{bytes, fixture, floats, noise, stored, write_model};

fn dims(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// An adapter with the matrices of one module.
pub fn adapter(dir: &Path, case: &Value, module: &Value) {
    let path = module["weight"].as_str().unwrap().strip_suffix(".weight").unwrap();
    let ends = if module["kind"] == "emb" {
        ["lora_embedding_A", "lora_embedding_B"]
    } else {
        ["lora_A.weight", "lora_B.weight"]
    };
    let values = |key: &str, shape: &str| {
        let bf16 = module[format!("{key}_dtype")] == "bf16";
        let raw = bytes(&module[key]);
        let shape = dims(&module[shape]);
        let wide = raw.len() == shape.iter().product::<usize>() * 4;
        assert!(bf16 != wide, "the fixture says which");
        let dtype = if bf16 { Dtype::BF16 } else { Dtype::F32 };
        let source = stored(dtype, &shape, raw);
        let mut values = vec![0.0; shape.iter().product()];
        source.read(0, &mut values).unwrap();
        (dtype, shape, values)
    };
    let mut tensors = Vec::new();
    for (key, end) in [("A", ends[0]), ("B", ends[1])] {
        let (dtype, shape, values) = values(key, &format!("{key}_shape"));
        tensors.push((format!("base_model.model.{path}.{end}"), dtype, shape, values));
    }
    if !module["magnitude"].is_null() {
        let values = floats(&module["magnitude"]);
        let name = format!("base_model.model.{path}.lora_magnitude_vector");
        tensors.push((name, Dtype::F32, vec![values.len()], values));
    }
    write_model(dir, &tensors, &Value::Null);
    std::fs::rename(dir.join("model.safetensors"), dir.join("adapter_model.safetensors")).unwrap();
    std::fs::write(dir.join("adapter_config.json"), case["config"].to_string()).unwrap();
}

fn base(module: &Value) -> Stored {
    let dtype = if module["W_dtype"] == "bf16" { Dtype::BF16 } else { Dtype::F32 };
    stored(dtype, &dims(&module["shape"]), bytes(&module["W"]))
}

/// The cases and modules of the fixture.
#[cfg(feature = "graph")]
pub fn modules() -> Vec<(Value, Value)> {
    let data = fixture("lora.json");
    let of = |case: &Value| -> Vec<_> {
        case["modules"].as_array().unwrap().iter().map(|module| (case.clone(), module.clone())).collect()
    };
    data["cases"].as_array().unwrap().iter().flat_map(of).collect()
}

/// A model with the tensor of a module.
#[cfg(feature = "graph")]
pub fn write_base(dir: &Path, module: &Value) {
    let base = base(module);
    let mut values = vec![0.0; base.spec().elements()];
    base.read(0, &mut values).unwrap();
    let name = module["weight"].as_str().unwrap().to_owned();
    let tensors = [(name, base.spec().dtype(), base.spec().shape().to_vec(), values)];
    write_model(dir, &tensors, &crate::support::config(1, false));
}

#[test]
fn adapters_are_merged_as_peft_does() {
    let data = fixture("lora.json");
    let mut count = 0;
    for case in data["cases"].as_array().unwrap() {
        for module in case["modules"].as_array().unwrap() {
            let dir = TempDir::new().unwrap();
            adapter(dir.path(), case, module);
            let adapter = Adapter::open(dir.path()).unwrap();
            let base = base(module);
            let (dtype, elements) = (base.spec().dtype(), base.spec().elements());
            let merged = adapter.apply(module["weight"].as_str().unwrap(), Some(Box::new(base))).unwrap();
            let mut found = vec![0.0; elements];
            merged.read(0, &mut found).unwrap();
            let mut part = [0.0; 7];
            merged.read(20, &mut part).unwrap();
            assert_eq!(part, found[20..27], "parts have the same bits");
            if dtype == Dtype::F32 {
                let expected = floats(&module["merged"]);
                let worst =
                    found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
                assert!(worst < 1.2e-7, "{}: {worst:e}", case["name"]);
            } else {
                let found = codec_api::util::narrowed(dtype, &found).unwrap();
                let expected = bytes(&module["merged"]);
                let differ = found.chunks(2).zip(expected.chunks(2)).filter(|(a, b)| a != b).count();
                // PEFT rounds twice if the adapter is BF16.
                let known = module["own_rounded_once_mismatches"].as_u64().unwrap() as usize;
                assert_eq!(differ, known, "{}", case["name"]);
            }
            count += 1;
        }
    }
    assert_eq!(count, 8);
}

#[test]
fn what_is_not_merged_is_refused() {
    let data = fixture("lora.json");
    let (mut case, module) = (data["cases"][0].clone(), data["cases"][0]["modules"][0].clone());
    for (key, value, part) in [
        ("layer_replication", serde_json::json!([[0, 1]]), "`layer_replication`"),
        ("init_lora_weights", "pissa_niter_4".into(), "changed the base model"),
        ("use_dora", true.into(), "contradict"),
        ("lora_alpha", Value::Null, "`lora_alpha`"),
        ("peft_type", "LOHA".into(), "only `LORA`"),
    ] {
        let before = case["config"][key].clone();
        case["config"][key] = value;
        let dir = TempDir::new().unwrap();
        adapter(dir.path(), &case, &module);
        let error = Adapter::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        case["config"][key] = before;
    }
    let dir = TempDir::new().unwrap();
    adapter(dir.path(), &case, &module);
    let adapter = Adapter::open(dir.path()).unwrap();
    let wrong = stored(Dtype::F32, &[3, 2], vec![0; 24]);
    let error = adapter.apply(module["weight"].as_str().unwrap(), Some(Box::new(wrong))).unwrap_err().to_string();
    assert!(error.contains("16 × 16") && error.contains("[3, 2]"), "{error}");
}

#[test]
fn differences_are_decomposed() {
    let data = fixture("extract.json");
    let delta = floats(&data["delta"]);
    let mut turned = vec![0.0; 128];
    codec_api::util::transpose((8, 16), &delta, &mut turned);
    for case in data["cases"].as_array().unwrap() {
        let transpose = case["transpose"] == true;
        let (shape, values) = if transpose { ((16, 8), &turned) } else { ((8, 16), &delta) };
        let options = Extract {
            max_rank: case["max_rank"].as_u64().unwrap() as usize,
            epsilon: case["sv_epsilon"].as_f64().unwrap(),
            distribute: case["distribute_scale"] == true,
            embeddings: true,
        };
        let found = decompose(shape, values, &options).unwrap();
        assert_eq!(found.rank as u64, case["rank"].as_u64().unwrap(), "{case}");
        for (k, norm) in case["row_norms_A"].as_array().unwrap().iter().enumerate() {
            let row = &found.a[k * shape.1..(k + 1) * shape.1];
            let own = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
            assert!((own - norm.as_f64().unwrap()).abs() < 1e-6, "{own} {norm}");
        }
        if case["BA"].is_string() {
            let expected = floats(&case["BA"]);
            for i in 0..shape.0 {
                for j in 0..shape.1 {
                    let terms = (0..found.rank)
                        .map(|k| f64::from(found.b[i * found.rank + k]) * f64::from(found.a[k * shape.1 + j]));
                    let own = terms.sum::<f64>();
                    assert!((own - f64::from(expected[i * shape.1 + j])).abs() < 1e-7, "{own}");
                }
            }
        }
    }
}

#[test]
fn an_extracted_adapter_gives_the_fine_tune_back() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::linked().unwrap();
    let base = crate::support::llama(1, 2, Dtype::F32, false);
    let mut fine = base.clone();
    // A difference of rank 1, a norm, and an embedding.
    for (i, x) in fine[2].3.iter_mut().enumerate() {
        *x += 0.01 * (i / 16) as f32 * ((i % 16) as f32 - 3.0);
    }
    fine[1].3[3] += 0.5;
    fine[0].3.iter_mut().zip(noise(9, 320)).for_each(|(x, noise)| *x += 0.1 * noise);
    let [b, f, out] = ["base", "fine", "adapter"].map(|name| dir.path().join(name));
    write_model(&b, &base, &crate::support::config(2, true));
    write_model(&f, &fine, &crate::support::config(2, true));
    let cancel = codec_api::Cancel::new();
    let options = Extract { max_rank: 4, epsilon: 1e-5, ..Extract::default() };
    let found = merge::lora::extract([&b, &f], &out, &options, (&cancel, &codec_api::NoProgress), &registry).unwrap();
    assert_eq!((found.modules, found.rank, found.whole), (1, 1, 2));
    let yaml = format!("models: [{{model: {}+{}}}]\nmerge_method: passthrough\n", b.display(), out.display());
    let recipe = merge::Recipe::from_yaml(&yaml).unwrap();
    let plan = merge::Plan::new(recipe, merge::PlanOptions::default(), &registry).unwrap();
    let merged = dir.path().join("merged");
    merge::run(&plan, &merged, &merge::RunOptions::new(&cancel, &codec_api::NoProgress)).unwrap();
    let model = checkpoint::Checkpoint::open(&merged).unwrap();
    for (name, _, _, values) in &fine {
        let tensor = model.tensor(name).unwrap();
        let own = tensor.to_f32().unwrap();
        assert!(own.iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
    }
}

#[test]
fn an_adapter_of_a_tied_embedding_unties_the_head() {
    let (data, dir) = (fixture("lora.json"), TempDir::new().unwrap());
    let case = data["cases"].as_array().unwrap().iter().find(|case| case["name"] == "embedding_and_saved").unwrap();
    let [base, lora, out] = ["base", "lora", "out"].map(|name| dir.path().join(name));
    adapter(&lora, case, &case["modules"][0]);
    let tensors = crate::support::llama(1, 1, Dtype::F32, false);
    write_model(&base, &tensors, &crate::support::config(1, true));
    let registry = Registry::linked().unwrap();
    let recipe = merge::Recipe::of_adapter(&base, &lora);
    let plan = merge::Plan::new(recipe, merge::PlanOptions::default(), &registry).unwrap();
    assert!(plan.notes().iter().any(|note| note.contains("which are tied")), "{:?}", plan.notes());
    let cancel = codec_api::Cancel::new();
    merge::run(&plan, &out, &merge::RunOptions::new(&cancel, &codec_api::NoProgress)).unwrap();
    let model = checkpoint::Checkpoint::open(&out).unwrap();
    let values = |name: &str| model.tensor(name).unwrap().to_f32().unwrap().into_owned();
    assert_eq!(values("lm_head.weight"), tensors[0].3, "the head stays as it was");
    assert_ne!(values("model.embed_tokens.weight"), tensors[0].3);
    let config = std::fs::read_to_string(out.join("config.json")).unwrap();
    assert!(config.contains("\"tie_word_embeddings\": false"), "{config}");
}
