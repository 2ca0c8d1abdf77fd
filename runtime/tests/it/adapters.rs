//! LoRA adapters beside dense and packed weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use checkpoint::Model;
use codec_api::Registry;
use runtime::{Adapter, CacheType, Decoder, Options};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use simd::{Level, with_level};
use tempfile::TempDir;

use crate::support::{Tiny, difference, logits, reference};

/// Small matrices by name, with their shapes.
type Matrices = BTreeMap<String, ([usize; 2], Vec<f32>)>;

const RANK: usize = 3;
const ALPHA: f32 = 6.0;

/// Matrices for these layers, with outputs and inputs.
fn matrices(layers: &[(&str, usize, usize)]) -> Matrices {
    let mut all = Matrices::new();
    for (number, (layer, outputs, inputs)) in layers.iter().enumerate() {
        let mut add = |end: &str, rows: usize, columns: usize, seed: usize| {
            let value = |i: usize| 0.2 * libm::sinf((i * i % 1009 + 31 * seed) as f32);
            let name = format!("base_model.model.{layer}.lora_{end}.weight");
            all.insert(name, ([rows, columns], (0..rows * columns).map(value).collect()));
        };
        add("A", RANK, *inputs, 2 * number);
        add("B", *outputs, RANK, 2 * number + 1);
    }
    all
}

/// Writes an adapter.
fn adapter(matrices: &Matrices, config: &Value) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let bytes: Vec<_> =
        matrices.values().map(|(_, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).collect();
    let views = matrices
        .iter()
        .zip(&bytes)
        .map(|((name, (shape, _)), bytes)| (name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    fs::write(place.path().join("adapter_model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let mut all = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "use_dora": false,
        "target_modules": "all-linear", "init_lora_weights": true, "modules_to_save": null, "fan_in_fan_out": false});
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    fs::write(place.path().join("adapter_config.json"), all.to_string()).unwrap();
    place
}

/// The model with an adapter.
fn adapted(model: &Path, adapter: &Path, threads: usize) -> runtime::Result<Decoder> {
    let model = Model::open(model, &[], &Registry::linked().unwrap()).unwrap();
    Decoder::adapted(&model, Some(&Adapter::open(adapter)?), Options::new(threads))
}

/// Adds `scale·B·A` to the weights of the model, which are outputs × inputs or `turned`.
fn merge(tiny: &Tiny, matrices: &Matrices, scale: f32, turned: bool) {
    tiny.rewrite(|tensors| {
        for (a_name, ([rank, inputs], a)) in matrices.iter().filter(|(name, _)| name.contains("lora_A")) {
            let ([outputs, _], b) = &matrices[&a_name.replace("lora_A", "lora_B")];
            let layer = a_name.strip_prefix("base_model.model.").unwrap().strip_suffix(".lora_A.weight").unwrap();
            let (dtype, shape, bytes) = tensors.get_mut(&format!("{layer}.weight")).unwrap();
            assert_eq!((*dtype, shape.iter().product::<usize>()), (Dtype::F32, inputs * outputs));
            for (i, value) in bytes.chunks_exact_mut(4).enumerate() {
                let (o, k) = if turned { (i % outputs, i / outputs) } else { (i / inputs, i % inputs) };
                let added: f32 = (0..*rank).map(|r| b[o * rank + r] * a[r * inputs + k]).sum();
                let sum = f32::from_le_bytes(value.try_into().unwrap()) + scale * added;
                value.copy_from_slice(&sum.to_le_bytes());
            }
        }
    });
}

/// Shape of a layer's weights: outputs and inputs.
fn shapes<'a>(name: &str, layers: &[&'a str]) -> Vec<(&'a str, usize, usize)> {
    let tiny = Tiny::new(name);
    let mut found = Vec::new();
    tiny.rewrite(|tensors| {
        for layer in layers {
            let shape = &tensors[&format!("{layer}.weight")].1;
            let (rows, columns) = (shape[0], shape[1]);
            found.push(if name == "gpt2" { (*layer, columns, rows) } else { (*layer, rows, columns) });
        }
    });
    found
}

const LLAMA: [&str; 5] = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.self_attn.v_proj",
    "model.layers.0.mlp.gate_proj",
    "model.layers.1.mlp.down_proj",
    "lm_head",
];
const GPT2: [&str; 3] = ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_proj", "transformer.h.1.mlp.c_fc"];

#[test]
fn an_adapter_gives_the_logits_of_merged_weights() {
    let rooted = json!({"use_rslora": true});
    let other = json!({"lora_alpha": 1, "alpha_pattern": {"q_proj|v_proj|gate_proj|lm_head": ALPHA, "layers.\\d.mlp.down_proj": ALPHA}, "target_modules": ["q_proj", "lm_head"]});
    for (name, layers, config, scale) in [
        ("llama", &LLAMA[..], json!({}), ALPHA / RANK as f32),
        ("llama", &LLAMA, rooted, ALPHA / (RANK as f32).sqrt()),
        ("llama", &LLAMA, other, ALPHA / RANK as f32),
        ("gpt2", &GPT2, json!({}), ALPHA / RANK as f32),
    ] {
        let (tiny, matrices, ids) = (Tiny::new(name), matrices(&shapes(name, layers)), reference(name).0);
        let place = adapter(&matrices, &config);
        let plain = logits(&tiny.decoder(2).unwrap(), &ids, 1, CacheType::F32);
        let merged = Tiny::new(name);
        merge(&merged, &matrices, scale, name == "gpt2");
        let expected = logits(&merged.decoder(2).unwrap(), &ids, 1, CacheType::F32);
        assert!(difference(&plain, &expected) > 1e-2, "{name}: the adapter changes nothing");
        for (threads, piece) in [(1, 1), (2, ids.len()), (3, 7)] {
            let found = logits(&adapted(&tiny.path(), place.path(), threads).unwrap(), &ids, piece, CacheType::F32);
            let found = difference(&found, &expected);
            assert!(found < 2e-4, "{name}, {threads} threads, {piece} at a time: {found}");
        }
        // Exact codecs keep the weights; one has an operator, the other turns the matrix.
        for codec in ["lossless.raw", "transpose(lossless.raw)"] {
            let packed = adapted(&tiny.pack(codec).path(), place.path(), 2).unwrap();
            for piece in [1, ids.len()] {
                let found = difference(&logits(&packed, &ids, piece, CacheType::F32), &expected);
                assert!(found < 2e-4, "{name}, {codec}, {piece} at a time: {found}");
            }
        }
    }
}

#[test]
fn threads_and_instructions_give_the_same_bits_beside_any_operator() {
    for (name, layers) in [("llama", &LLAMA[..]), ("gpt2", &GPT2)] {
        let (tiny, ids) = (Tiny::new(name), reference(name).0);
        let place = adapter(&matrices(&shapes(name, layers)), &json!({}));
        for codec in ["quant.int:bits=8", "quant.q4_0"] {
            let packed = tiny.pack(codec);
            let all = |threads, level| {
                let decoder = adapted(&packed.path(), place.path(), threads).unwrap();
                with_level(level, || logits(&decoder, &ids, 1, CacheType::F32))
            };
            let expected = all(1, Level::Scalar);
            assert!(difference(&expected, &logits(&packed.decoder(1).unwrap(), &ids, 1, CacheType::F32)) > 1e-2);
            for level in Level::available() {
                for threads in [1, 2, 3, 9] {
                    assert!(all(threads, level) == expected, "{name}, {codec}, {threads} threads, {level}");
                }
            }
        }
    }
}

#[test]
fn memory_counts_the_adapter() {
    let (tiny, layers) = (Tiny::new("llama"), shapes("llama", &LLAMA));
    let place = adapter(&matrices(&layers), &json!({}));
    let values: usize = layers.iter().map(|(_, outputs, inputs)| RANK * (outputs + inputs)).sum();
    let added =
        adapted(&tiny.path(), place.path(), 1).unwrap().resident_bytes() - tiny.decoder(1).unwrap().resident_bytes();
    // Matrices are aligned to cache lines.
    assert!((4 * values..4 * values + 128 * layers.len()).contains(&(added as usize)), "{added}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let layers = shapes("llama", &LLAMA[..1]);
    let q = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
    let error = |change: &dyn Fn(&mut Matrices), config: &Value| {
        let mut matrices = matrices(&layers);
        change(&mut matrices);
        adapted(&Tiny::new("llama").path(), adapter(&matrices, config).path(), 1).unwrap_err().to_string()
    };
    let same = |_: &mut Matrices| ();
    for (config, parts) in [
        (json!({"use_dora": true}), ["`use_dora`", "`true` is not supported"]),
        (json!({"peft_type": "IA3"}), ["`peft_type`", "only `LORA`"]),
        (json!({"target_modules": ["q_proj", "k_proj"]}), ["`k_proj`", "target module"]),
    ] {
        let found = error(&same, &config);
        assert!(parts.iter().all(|part| found.contains(part)), "{found}");
    }
    let rename = |to: &'static str| {
        move |matrices: &mut Matrices| {
            *matrices = std::mem::take(matrices).into_iter().map(|(name, m)| (name.replace("q_proj", to), m)).collect();
        }
    };
    assert!(
        error(&rename("x_proj"), &json!({})).contains("`model.layers.0.self_attn.x_proj`: the model has no linear")
    );
    let wrong = |end: &'static str, shape: [usize; 2]| {
        move |matrices: &mut Matrices| {
            let values = vec![0.5; shape[0] * shape[1]];
            matrices.insert(format!("{q}{end}.weight"), (shape, values));
        }
    };
    assert!(error(&wrong("A", [RANK, 5]), &json!({})).contains("lora_A.weight`: its shape is (3, 5)"));
    assert!(error(&wrong("B", [5, RANK]), &json!({})).contains("lora_B.weight`: its shape is (5, 3)"));
    assert!(error(&wrong("magnitude_vector", [1, 5]), &json!({})).contains("is no matrix of a LoRA of linear layers"));
    let half = |matrices: &mut Matrices| drop(matrices.remove(&format!("{q}B.weight")));
    assert!(error(&half, &json!({})).contains("one of `lora_A` and `lora_B` only"));
    let nan = |matrices: &mut Matrices| matrices.get_mut(&format!("{q}A.weight")).unwrap().1[7] = f32::NAN;
    assert!(error(&nan, &json!({})).contains("element 7 is a NaN"));
    let absent = Adapter::open(Path::new("absent")).unwrap_err().to_string();
    assert!(absent.contains("absent/adapter_config.json") && absent.contains("PEFT"), "{absent}");
}
