//! The methods against a reference in f64.

use std::sync::Arc;

use codec_api::util::narrowed;
use codec_api::{Cancel, Dtype};
use merge::{Draws, Inputs, Method, Source, Sparsify, Task, TaskModel, Vectors};
use serde_json::Value;

use crate::support::{bytes, fixture, floats, stored};

fn number(value: &Value, or: f64) -> f64 {
    value.as_f64().unwrap_or(or)
}

fn flag(value: &Value, or: bool) -> bool {
    value.as_bool().unwrap_or(or)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().map(|all| all.iter().map(|x| x.as_f64().unwrap()).collect()).unwrap_or_default()
}

fn mask(hex: &Value) -> Arc<[bool]> {
    bytes(hex).iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect()
}

fn task(case: &Value, masks: &Value, name: &str) -> Task {
    let (sparsify, consensus, normalize, rescale) = match name {
        "task_arithmetic" => (Sparsify::Dense, false, false, false),
        "ties" => (Sparsify::Magnitude, true, true, false),
        "dare_ties" => (Sparsify::Random, true, false, true),
        "dare_linear" => (Sparsify::Random, false, false, true),
        "breadcrumbs" => (Sparsify::Outliers, false, false, false),
        "breadcrumbs_ties" => (Sparsify::Outliers, true, false, false),
        "della" => (Sparsify::Ranked, true, true, true),
        "della_linear" => (Sparsify::Ranked, false, false, true),
        _ => panic!("{name}"),
    };
    let (per, params) = (&case["per"], &case["params"]);
    let model = |(i, weight): (usize, f64)| TaskModel {
        weight,
        density: number(&per["density"][i], 1.0),
        gamma: number(&per["gamma"][i], 0.01),
        epsilon: number(&per["epsilon"][i], 0.15),
        draws: Draws::new(0, i, "x"),
        mask: case["masks"][i].as_str().map(|id| mask(&masks[id])),
    };
    Task {
        models: numbers(&per["weight"]).into_iter().enumerate().map(model).collect(),
        sparsify,
        consensus,
        normalize: flag(&params["normalize"], normalize),
        rescale: flag(&params["rescale"], rescale),
        lambda: number(&params["lambda"], 1.0),
    }
}

fn method(case: &Value, masks: &Value) -> Method {
    let (per, params) = (&case["per"], &case["params"]);
    match case["method"].as_str().unwrap() {
        "linear" => Method::Linear { weights: numbers(&per["weight"]), normalize: flag(&params["normalize"], true) },
        "slerp" => Method::Slerp { t: number(&params["t"], 0.0) },
        "nuslerp" => Method::NuSlerp {
            weights: numbers(&per["weight"]).try_into().unwrap(),
            vectors: match (flag(&params["nuslerp_flatten"], true), flag(&params["nuslerp_row_wise"], false)) {
                (true, _) => Vectors::Whole,
                (false, false) => Vectors::Rows,
                (false, true) => Vectors::Columns,
            },
        },
        "model_stock" => Method::ModelStock { filter_wise: flag(&params["filter_wise"], false) },
        "passthrough" => Method::Passthrough { scale: per["scale"][0].as_f64() },
        "sce" => Method::Sce { select_topk: number(&params["select_topk"], 1.0) },
        "karcher" => Method::Karcher { max_iter: 10, tol: 1e-5 },
        "nearswap" => Method::NearSwap { t: number(&params["t"], 0.0) },
        "multislerp" => Method::MultiSlerp { weights: numbers(&per["weight"]), normalize: true },
        name => Method::Task(task(case, masks, name)),
    }
}

fn merged(case: &Value, data: &Value, dtype: Dtype) -> Vec<f32> {
    let inputs = &data[if dtype == Dtype::F32 { "inputs_f32" } else { "inputs_bf16" }];
    let base = case["base"].as_str();
    let (mut models, mut base_input) = (Vec::new(), None);
    for name in case["models"].as_array().unwrap() {
        let source = stored(dtype, &[8, 16], bytes(&inputs[name.as_str().unwrap()]));
        match base {
            Some(base) if name == base && case["method"] != "slerp" => base_input = Some(source),
            Some(base) if name == base => models.insert(0, source),
            _ => models.push(source),
        }
    }
    let models: Vec<&dyn Source> = models.iter().map(|model| model as &dyn Source).collect();
    let cancel = Cancel::new();
    let base = base_input.as_ref().map(|base| base as &dyn Source);
    let inputs = Inputs { models: &models, base, cancel: &cancel };
    let prepared = method(case, &data["masks"]).prepare(&inputs).unwrap();
    let mut out = vec![0.0; 128];
    prepared.apply(&inputs, 0, &mut out).unwrap();
    // Any division into blocks gives the same bits.
    for (start, end) in [(0, 5), (5, 37), (37, 128)] {
        let mut part = vec![0.0; end - start];
        prepared.apply(&inputs, start, &mut part).unwrap();
        assert_eq!(part, out[start..end]);
    }
    out
}

#[test]
fn every_case_agrees_with_the_reference() {
    let data = fixture("methods.json");
    let cases = data["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 42);
    let mut wrong = Vec::new();
    for case in cases {
        let found = merged(case, &data, Dtype::F32);
        let expected = floats(&case["expect_f32"]);
        let error = |(a, b): (&f32, &f32)| (a - b).abs() / b.abs().max(1.0);
        let worst = found.iter().zip(&expected).map(error).fold(0.0, f32::max);
        if worst.is_nan() || worst > 2e-7 {
            wrong.push(format!("{}: f32 differs by {worst:e}", case["name"]));
        }
        let found = narrowed(Dtype::BF16, &merged(case, &data, Dtype::BF16)).unwrap();
        let differ = found.chunks(2).zip(bytes(&case["expect_bf16"]).chunks(2)).filter(|(a, b)| a != b).count();
        if differ > 0 {
            wrong.push(format!("{}: {differ} elements differ in bf16", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
