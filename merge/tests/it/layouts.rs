//! Adapters of convolutions, files of kohya's scripts, and adapters taken out again.

use std::path::{Path, PathBuf};

use checkpoint::Checkpoint;
use codec_api::{Cancel, Dtype, NoProgress, Registry};
use codecs as _;
use merge::{Plan, PlanOptions, Recipe, RunOptions, differing};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{config, llama, noise, write_model};

type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<f32>)>;

fn tensor(name: &str, shape: &[usize], seed: u64) -> (String, Dtype, Vec<usize>, Vec<f32>) {
    (name.to_owned(), Dtype::F32, shape.to_vec(), noise(seed, shape.iter().product()))
}

/// Writes the tensors as one file.
fn file(path: &Path, tensors: &Tensors) {
    let dir = TempDir::new().unwrap();
    write_model(dir.path(), tensors, &Value::Null);
    std::fs::copy(dir.path().join("model.safetensors"), path).unwrap();
}

/// An adapter of PEFT.
fn peft(dir: &Path, tensors: &Tensors, config: &Value) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    file(&dir.join("adapter_model.safetensors"), tensors);
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    dir.to_owned()
}

fn write(plan: &Plan, out: &Path) -> Checkpoint {
    let cancel = Cancel::new();
    merge::run(plan, out, &RunOptions::new(&cancel, &NoProgress)).unwrap();
    Checkpoint::open(out).unwrap()
}

fn plan(model: &Path, adapter: &Path) -> Result<Plan, String> {
    let recipe = Recipe::of_adapter(model, adapter);
    Plan::new(recipe, PlanOptions::default(), &Registry::linked().unwrap()).map_err(|error| error.to_string())
}

/// `W + s·B·A`, with `A` as `rank × inputs` and `B` as `outputs × rank`.
fn expected(w: &[f32], a: &[f32], b: &[f32], rank: usize, scale: f64) -> Vec<f32> {
    let columns = a.len() / rank;
    let sum = |i: usize, j: usize| -> f64 {
        (0..rank).map(|r| f64::from(b[i * rank + r]) * f64::from(a[r * columns + j])).sum()
    };
    w.iter().enumerate().map(|(at, w)| (f64::from(*w) + scale * sum(at / columns, at % columns)) as f32).collect()
}

#[test]
fn kernels_of_convolutions_are_products() {
    let dir = TempDir::new().unwrap();
    let model = dir.path().join("model");
    let shapes: [(&str, &[usize]); 3] = [("conv", &[6, 5, 3, 3]), ("one", &[6, 5, 1, 1]), ("linear", &[6, 5])];
    let base: Tensors =
        shapes.iter().zip(1..).map(|((name, shape), seed)| tensor(&format!("{name}.weight"), shape, seed)).collect();
    write_model(&model, &base, &json!({}));
    let prefix = "base_model.model.";
    let a = |name: &str, shape: &[usize]| tensor(&format!("{prefix}{name}.lora_A.weight"), shape, shape.len() as u64);
    let b = |name: &str, shape: &[usize]| tensor(&format!("{prefix}{name}.lora_B.weight"), shape, 9);
    // A layer of 1 × 1 kernels is a linear one, and the other way round.
    let tensors: Tensors = vec![
        a("conv", &[2, 5, 3, 3]),
        b("conv", &[6, 2, 1, 1]),
        a("one", &[2, 5]),
        b("one", &[6, 2]),
        a("linear", &[2, 5, 1, 1]),
        b("linear", &[6, 2, 1, 1]),
    ];
    let settings = json!({"peft_type": "LORA", "lora_alpha": 3, "use_dora": false});
    let adapter = peft(&dir.path().join("adapter"), &tensors, &settings);
    let merged = write(&plan(&model, &adapter).unwrap(), &dir.path().join("out"));
    for (i, (name, ..)) in base.iter().enumerate() {
        let found = merged.tensor(name).unwrap().to_f32().unwrap().into_owned();
        assert_eq!(found, expected(&base[i].3, &tensors[2 * i].3, &tensors[2 * i + 1].3, 2, 1.5), "{name}");
    }
    for (at, wrong, part) in [
        (0, a("conv", &[2, 5, 3, 2]), "kernels [5, 3, 2]"),
        (1, b("conv", &[6, 2, 3, 3]), "rank"),
        (2, a("one", &[2, 4]), "6 × 4"),
    ] {
        let mut tensors = tensors.clone();
        tensors[at] = wrong;
        let adapter = peft(&dir.path().join("wrong"), &tensors, &settings);
        let plan = plan(&model, &adapter).unwrap();
        let cancel = Cancel::new();
        let error = merge::run(&plan, &dir.path().join("none"), &RunOptions::new(&cancel, &NoProgress)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn files_of_kohya_find_their_modules() {
    let dir = TempDir::new().unwrap();
    let model = dir.path().join("unet");
    let names = ["down_blocks.0.attentions.0.proj_in", "mid_block.attn_1.to_q"];
    let base: Tensors = vec![
        tensor(&format!("{}.weight", names[0]), &[6, 5, 3, 3], 1),
        tensor(&format!("{}.weight", names[1]), &[4, 4], 2),
    ];
    write_model(&model, &base, &json!({}));
    let (conv, to_q) = ("lora_unet_down_blocks_0_attentions_0_proj_in", "lora_unet_mid_block_attn_1_to_q");
    let mut tensors: Tensors = vec![
        tensor(&format!("{conv}.lora_down.weight"), &[2, 5, 3, 3], 3),
        tensor(&format!("{conv}.lora_up.weight"), &[6, 2, 1, 1], 4),
        (format!("{conv}.alpha"), Dtype::F32, vec![], vec![0.5]),
        tensor(&format!("{to_q}.lora_down.weight"), &[2, 4], 5),
        tensor(&format!("{to_q}.lora_up.weight"), &[4, 2], 6),
        tensor("lora_te_text_model_x.lora_down.weight", &[2, 4], 7),
        tensor("lora_te_text_model_x.lora_up.weight", &[4, 2], 8),
    ];
    let path = dir.path().join("style.safetensors");
    file(&path, &tensors);
    let plan_of = plan(&model, &path).unwrap();
    let left_out = "has 1 modules of `lora_te_…` for another model";
    assert!(plan_of.notes().iter().any(|note| note.contains(left_out)), "{:?}", plan_of.notes());
    let merged = write(&plan_of, &dir.path().join("out"));
    let found = |name: &str| merged.tensor(name).unwrap().to_f32().unwrap().into_owned();
    assert_eq!(found(&base[0].0), expected(&base[0].3, &tensors[0].3, &tensors[1].3, 2, 0.25));
    assert_eq!(found(&base[1].0), expected(&base[1].3, &tensors[3].3, &tensors[4].3, 2, 1.0), "without an alpha");

    let refused = |tensors: &Tensors| {
        let path = dir.path().join("wrong.safetensors");
        file(&path, tensors);
        plan(&model, &path).map(|_| ()).unwrap_err()
    };
    tensors.push(tensor("lora_unet_mid_block_attn_2_to_q.lora_down.weight", &[2, 4], 9));
    assert!(refused(&tensors).contains("does not have 1 of the 3 modules of `lora_unet_`"));
    for (name, part) in [
        ("lora_unet_mid_block_attn_1_to_q.hada_w1_a", "LoHa"),
        ("lora_unet_mid_block_attn_1_to_q.lokr_w1", "LoKr"),
        ("lora_unet_mid_block_attn_1_to_q.lora_mid.weight", "LoCon"),
        ("lora_unet_mid_block_attn_1_to_q.x", "not merged"),
        ("unet.x.lora.down.weight", "not named like"),
        ("lora_unet_input_blocks_1.lora_down.weight", "no module of this LoRA"),
    ] {
        let error = refused(&vec![tensor(name, &[2, 4], 1)]);
        assert!(error.contains(part), "{error}");
    }
    let error = plan(&model, dir.path()).map(|_| ()).unwrap_err();
    assert!(error.contains("adapter_config.json") && error.contains("kohya"), "{error}");
}

#[test]
fn an_ambiguous_name_of_kohya_is_refused() {
    let dir = TempDir::new().unwrap();
    let model = dir.path().join("model");
    write_model(&model, &[tensor("a.b_c.weight", &[4, 4], 1), tensor("a_b.c.weight", &[4, 4], 2)], &json!({}));
    let path = dir.path().join("l.safetensors");
    let ends = ["down", "up"].map(|end| format!("lora_unet_a_b_c.lora_{end}.weight"));
    file(&path, &vec![tensor(&ends[0], &[1, 4], 3), tensor(&ends[1], &[4, 1], 4)]);
    let error = plan(&model, &path).map(|_| ()).unwrap_err();
    assert!(error.contains("several modules"), "{error}");
}

#[test]
fn an_adapter_is_taken_out_again() {
    let registry = Registry::linked().unwrap();
    for (dtype, unit) in [(Dtype::F32, 2f64.powi(-24)), (Dtype::BF16, 2f64.powi(-8))] {
        let dir = TempDir::new().unwrap();
        let [base, merged, without] = ["base", "merged", "without"].map(|name| dir.path().join(name));
        let tensors = llama(3, 1, dtype, true);
        write_model(&base, &tensors, &config(1, false));
        let module = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
        let parts =
            vec![tensor(&format!("{module}A.weight"), &[2, 16], 5), tensor(&format!("{module}B.weight"), &[16, 2], 6)];
        let settings = json!({"peft_type": "LORA", "lora_alpha": 1});
        let adapter = peft(&dir.path().join("adapter"), &parts, &settings);
        let plan_of = plan(&base, &adapter).unwrap();
        let after = write(&plan_of, &merged);
        let compare =
            |model: &Path| differing(&plan_of, model, 1 << 20, (&Cancel::new(), &NoProgress), &registry).unwrap();
        assert_eq!(compare(&merged), []);
        let found = compare(&base);
        assert_eq!(found.len(), 1);
        assert!(found[0].name.ends_with("q_proj.weight") && found[0].how.contains("of 256 values"), "{found:?}");

        let before = write(&Plan::without_adapter(&merged, &adapter, &registry).unwrap(), &without);
        for (name, _, _, own) in &tensors {
            let values = |model: &Checkpoint| model.tensor(name).unwrap().to_f32().unwrap().into_owned();
            let (before, after) = (values(&before), values(&after));
            let own = codec_api::util::narrowed(dtype, own).unwrap();
            let own = crate::support::stored(dtype, &[before.len()], own);
            let mut kept = vec![0.0; before.len()];
            merge::Source::read(&own, 0, &mut kept).unwrap();
            let bound = |(w, x): (&f32, &f32)| unit * (f64::from(w.abs()) + f64::from(x.abs())) * 1.001;
            let bounds = after.iter().zip(&before).map(bound);
            assert!(
                kept.iter().zip(&before).zip(bounds).all(|((a, b), bound)| f64::from((a - b).abs()) <= bound),
                "{name}"
            );
        }

        let mut other = tensors.clone();
        other.truncate(other.len() - 1);
        other.push(tensor("extra.weight", &[2], 1));
        write_model(&merged, &other, &config(1, false));
        let names: Vec<String> = compare(&merged).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["lm_head.weight", "model.layers.0.self_attn.q_proj.weight", "extra.weight"]);

        let dora = json!({"peft_type": "LORA", "lora_alpha": 1, "use_dora": true});
        let mut parts = parts.clone();
        parts.push(tensor(&format!("{module}magnitude_vector"), &[16], 7));
        let adapter = peft(&dir.path().join("dora"), &parts, &dora);
        let error = Plan::without_adapter(&base, &adapter, &registry).unwrap_err().to_string();
        assert!(error.contains("DoRA") && error.contains("--base"), "{error}");
    }
}
