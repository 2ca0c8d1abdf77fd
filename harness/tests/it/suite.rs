//! Suites: their content, and that it never changes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use codec_api::{Dtype, TensorSpec};
use harness::suite::{Item, Suite, SuiteError, SuiteOptions, catalogue};
use harness::testing::weights;
use safetensors::tensor::{TensorView, serialize};
use tempfile::TempDir;

pub(crate) fn suite(text: &str) -> Suite {
    Suite::parse(text, &SuiteOptions::default()).unwrap()
}

fn values(item: &Item) -> Vec<f32> {
    item.to_f32().unwrap()
}

fn shapes(suite: &Suite) -> Vec<(&str, &[usize])> {
    suite.items.iter().map(|item| (item.name.as_str(), item.spec.shape())).collect()
}

fn moments(values: &[f32]) -> (f64, f64, f64) {
    let n = values.len() as f64;
    let moment = |power| values.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / n;
    (moment(1), moment(2), moment(4))
}

/// The first 16 hexadecimal digits of the blake3 of names, bytes and base bytes.
fn hash(suite: &Suite) -> String {
    let mut hash = blake3::Hasher::new();
    for item in &suite.items {
        hash.update(item.name.as_bytes()).update(&item.data);
        item.base.as_ref().map(|base| hash.update(base));
    }
    hash.finalize().to_hex()[..16].to_owned()
}

#[test]
fn seeded_suites_never_change() {
    let pinned = [
        ("gaussian:32x48", "dbf6c10821e52bae"),
        ("laplace:32x48:bf16", "a34a6427fcbe422b"),
        ("scale-mixed:32x48:f16", "e9aa050e90e3e2f9"),
        ("delta/gaussian:r=0.01:32x48", "f518941878c47a18"),
        ("delta/changed:p=0.1:32x48:bf16", "801f0ce4b7c11595"),
        ("seed000/delta", "29e163d8c0eabaa6"),
        ("seed000/checkpoints", "f7564d3b7e9140f5"),
        ("seed001/gpt2-fine-tune", "f421e587a4651766"),
        ("seed001/distilgpt2-workflow", "456ea795abd57cfb"),
        ("seed000/svd", "352323b8addf4621"),
        ("seed000/sparse", "f80db33fdb309cfe"),
        ("seed000/quant8", "438648c164509c6c"),
        ("seed001/gpt2-delta", "c5906b77cf1fda66"),
        ("seed002/layers", "8618038289823330"),
        ("seed002/models/mlp", "f733e5e04f2a8190"),
        ("seed002/models/transformer", "4b6f7f44b0877b3f"),
    ];
    let found: Vec<_> = pinned.iter().map(|(name, _)| (*name, hash(&suite(name)))).collect();
    assert_eq!(found, pinned.map(|(name, hash)| (name, hash.to_owned())));
}

#[test]
fn weights_come_in_equal_parts_and_then_from_where_there_are_more() {
    // Seven tensors give 101 weights each, the last bias its 10, and the first weight matrix the
    // rest.
    let found = weights("seed002/models/mlp", 800);
    let items = suite("seed002/models/mlp").items;
    let (first, last) = (values(&items[0]), values(&items[7]));
    assert_eq!(found[..101], first[..101]);
    assert_eq!(found[101..202], values(&items[1])[..101]);
    assert_eq!(found[707..717], last);
    assert_eq!(found[717..], first[101..184]);
}

#[test]
fn seed_and_name_decide_the_values() {
    let with_seed = |seed| Suite::parse("gaussian:4x4", &SuiteOptions { seed, ..Default::default() }).unwrap();
    assert_eq!(with_seed(7).items[0].data, with_seed(7).items[0].data);
    assert_ne!(with_seed(7).items[0].data, with_seed(8).items[0].data);
    assert_eq!(with_seed(7).seed, 7);
    // A larger suite begins with the same numbers, and a tensor is the same in every suite that has
    // it.
    assert_eq!(values(&suite("gaussian:4x4").items[0])[..], values(&suite("gaussian:8x4").items[0])[..16]);
    let (one, all) = (suite("seed002/models/mlp"), suite("seed002/models"));
    let twin = all.items.iter().find(|item| item.name == "mlp.fc2.weight").unwrap();
    assert_eq!(one.items.iter().find(|item| item.name == twin.name).unwrap().data, twin.data);
}

#[test]
fn distributions_have_their_moments() {
    let (mean, variance, fourth) = moments(&values(&suite("gaussian").items[0]));
    assert!(mean.abs() < 0.005 && (variance - 1.0).abs() < 0.005 && (fourth - 3.0).abs() < 0.05);
    let (mean, variance, fourth) = moments(&values(&suite("laplace").items[0]));
    assert!(mean.abs() < 0.005 && (variance - 1.0).abs() < 0.01 && (fourth - 6.0).abs() < 0.3);
    // Row and column scales each multiply the variance by E[exp(0.8 N)] = exp(0.32).
    let (mean, variance, _) = moments(&values(&suite("scale-mixed").items[0]));
    assert!(mean.abs() < 0.01 && (variance / 0.64f64.exp() - 1.0).abs() < 0.1, "{variance}");
}

#[test]
fn synthetic_suites_take_shape_and_dtype() {
    let (single, half) = (suite("gaussian:3x5"), suite("gaussian:3x5:bf16"));
    assert_eq!(single.items[0].spec, TensorSpec::new(Dtype::F32, [3, 5]).unwrap());
    assert_eq!(half.items[0].spec, TensorSpec::new(Dtype::BF16, [3, 5]).unwrap());
    for (a, b) in values(&single.items[0]).iter().zip(values(&half.items[0])) {
        assert!((a - b).abs() <= a.abs() / 256.0, "{a} is rounded to {b}");
    }
    for wrong in ["gaussian:3", "gaussian:3x5:int8", "gaussian:0x5", "laplace:99999999x99999999", "gaussian:"] {
        let error = Suite::parse(wrong, &SuiteOptions::default()).unwrap_err();
        assert!(matches!(&error, SuiteError::Parameter { name, .. } if name == wrong), "{wrong}: {error}");
    }
}

#[test]
fn seed000_and_seed001_have_the_published_structure() {
    let only = |name: &str| {
        let suite = suite(name);
        (suite.items[0].spec.shape().to_vec(), values(&suite.items[0]))
    };
    let (shape, svd) = only("seed000/svd");
    // The sum of 50 products of variance 1, plus noise of variance 0.01².
    assert!(shape == [1000, 1000] && (moments(&svd).1 / 50.0 - 1.0).abs() < 0.1, "{:?}", moments(&svd));
    let (shape, sparse) = only("seed000/sparse");
    let kept: Vec<f32> = sparse.iter().copied().filter(|v| *v != 0.0).collect();
    let density = kept.len() as f64 / sparse.len() as f64;
    assert!(shape == [2000, 2000] && (density - 0.05).abs() < 0.001 && (moments(&kept).1 - 1.0).abs() < 0.02);
    let (shape, clipped) = only("seed000/quant8");
    let at_the_ends = clipped.iter().filter(|v| v.abs() == 3.0).count();
    // Of a million normal numbers, about 2700 are beyond three standard deviations.
    assert!(shape == [1000, 1000] && clipped.iter().all(|v| v.abs() <= 3.0) && at_the_ends.abs_diff(2700) < 200);
    let (shape, difference) = only("seed001/gpt2-delta");
    assert!(shape == [768, 3072] && (moments(&difference).1 / 0.0004 - 1.0).abs() < 0.01);
}

/// Tensor minus base, and the share of equal weights.
fn difference(item: &Item) -> (Vec<f32>, f64) {
    let base = item.base_view().unwrap().unwrap().to_f32().unwrap().into_owned();
    let differences: Vec<f32> = values(item).iter().zip(&base).map(|(w, b)| w - b).collect();
    let equal = differences.iter().filter(|d| **d == 0.0).count();
    (differences, equal as f64 / base.len() as f64)
}

#[test]
fn delta_suites_are_as_far_from_their_bases_as_they_say() {
    for (text, unchanged) in [("delta/gaussian:r=0.001", 0.775), ("delta/gaussian:r=1e-2", 0.174)] {
        // All other changes are below half an ulp of bf16.
        let (_, equal) = difference(&suite(text).items[0]);
        assert!((equal - unchanged).abs() < 0.005, "{text}: {equal}");
    }
    for (text, sd) in [("delta/gaussian:r=0.001:500x700:f32", 0.001), ("delta/gaussian:r=0.1:500x700:f16", 0.1)] {
        let (mean, variance, fourth) = moments(&difference(&suite(text).items[0]).0);
        let fourth = fourth / (sd * sd * sd * sd);
        assert!(mean.abs() < 0.01 * sd && (variance.sqrt() / sd - 1.0).abs() < 0.01, "{text}: {mean} {variance}");
        assert!((fourth - 3.0).abs() < 0.1, "{text}: {fourth}");
    }
    assert!(difference(&suite("delta/gaussian:r=0:40x40").items[0]).1 == 1.0);
}

#[test]
fn changed_weights_are_one_step_from_their_bases() {
    for dtype in ["f32", "f16", "bf16"] {
        let suite = suite(&format!("delta/changed:p=0.2:500x700:{dtype}"));
        let item = &suite.items[0];
        let (_, equal) = difference(item);
        assert!((equal - 0.8).abs() < 0.003, "{dtype}: {equal}");
        let width = item.spec.dtype().bitsize() / 8;
        let bits = |bytes: &[u8]| bytes.iter().rev().fold(0i64, |bits, byte| bits << 8 | i64::from(*byte));
        let pairs = item.data.chunks(width).zip(item.base.as_ref().unwrap().chunks(width));
        let steps: Vec<i64> = pairs.map(|(tuned, base)| bits(tuned) - bits(base)).collect();
        let ups = steps.iter().filter(|step| **step == 1).count() as f64 / (0.2 * steps.len() as f64);
        assert!(steps.iter().all(|step| step.abs() <= 1) && (ups - 0.5).abs() < 0.01, "{dtype}: {ups}");
    }
    let share = |p| difference(&suite(&format!("delta/changed:p={p}:40x40")).items[0]).1;
    assert!(share("0") == 1.0 && share("1") == 0.0);
}

#[test]
fn delta_suites_name_what_is_wrong() {
    let default = suite("delta/changed:p=0.01");
    assert_eq!(default.items[0].spec, TensorSpec::new(Dtype::BF16, [2048, 2048]).unwrap());
    for (wrong, part) in [
        ("delta/gaussian", "such as `r=0.01`"),
        ("delta/gaussian:32x32", "`r=` is missing"),
        ("delta/gaussian:p=0.1", "there is no key `p`"),
        ("delta/changed:r=0.1", "`p=` and a number from 0 to 1"),
        ("delta/gaussian:r=2", "`2` is not a number from 0 to 1"),
        ("delta/gaussian:r=-0.1", "`-0.1` is not"),
        ("delta/changed:p=NaN", "`NaN` is not"),
        ("delta/changed:p=0.1:32", "`32` is not ROWSxCOLUMNS"),
        ("delta/changed:p=0.1:32x32:i8", "`i8` is not one of"),
    ] {
        let error = Suite::parse(wrong, &SuiteOptions::default()).unwrap_err();
        assert!(matches!(&error, SuiteError::Parameter { name, .. } if name == wrong), "{wrong}: {error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn versions_in_the_seeds_have_their_bases() {
    let sd = |item: &Item| moments(&difference(item).0).1.sqrt();
    let near = |items: &[Item], expected: f64| {
        assert!(items.iter().all(|item| (sd(item) / expected - 1.0).abs() < 0.01), "{:?}", items.iter().map(sd));
    };
    for (name, shape, tensors, expected) in [
        ("seed000/delta", [1000, 1000], 1, 0.01),
        ("seed001/gpt2-fine-tune", [768, 3072], 1, 0.02),
        ("seed001/distilgpt2-workflow", [768, 3072], 3, 0.01),
    ] {
        let items = suite(name).items;
        assert!(items.len() == tensors && items.iter().all(|item| item.spec.shape() == shape), "{name}");
        near(&items, expected);
    }

    let steps = suite("seed000/checkpoints").items;
    assert!(steps.len() == 5 && steps[0].base.is_none());
    assert!(steps.windows(2).all(|pair| pair[1].base.as_ref() == Some(&pair[0].data)));
    near(&steps[1..], 0.001);

    let members = suite("seed000/ensemble").items;
    let layers = members.len() / 5;
    let weights: usize = members[..layers].iter().map(|item| item.spec.elements()).sum();
    assert_eq!((layers, weights), (36, 6 * (4 * 512 * 512 + 2 * 512 * 2048)));
    for (place, item) in members.iter().enumerate() {
        let first = &members[place % layers];
        // All members share the buffer of their base.
        let shared = item.base.as_ref().is_none_or(|base| base.as_ptr() == first.data.as_ptr());
        assert!(shared && item.base.is_none() == (place < layers), "{}", item.name);
        assert_eq!(item.name.split_once('.').unwrap().1, first.name.split_once('.').unwrap().1);
    }
    near(&[members[layers].clone(), members[members.len() - 1].clone()], 0.02);
}

#[test]
fn seed002_has_the_published_shapes() {
    let layers = suite("seed002/layers");
    let expected: [(&str, &[usize]); 6] = [
        ("linear_small.weight", &[64, 128]),
        ("linear_medium.weight", &[256, 512]),
        ("linear_large.weight", &[512, 1024]),
        ("conv_3x3.weight", &[64, 32, 3, 3]),
        ("conv_1x1.weight", &[128, 256, 1, 1]),
        ("embedding.weight", &[1000, 256]),
    ];
    assert_eq!(shapes(&layers), expected);

    let all = suite("seed002/models");
    let of = |model: &str| {
        let prefix = format!("{model}.");
        let items = all.items.iter().filter(|item| item.name.starts_with(&prefix));
        (items.clone().count(), items.map(|item| item.spec.elements()).sum::<usize>())
    };
    assert_eq!(of("mlp"), (8, 784 * 512 + 512 * 256 + 256 * 128 + 128 * 10 + 512 + 256 + 128 + 10));
    let convolutions = 9 * (3 * 64 + 64 * 128 + 128 * 256) + 64 + 128 + 256;
    assert_eq!(of("cnn"), (10, convolutions + 16384 * 1024 + 1024 + 1024 * 10 + 10));
    assert_eq!(of("transformer"), (12, 4 * 256 * 256 + 4 * 256 + 2 * 256 * 1024 + 1024 + 256 + 4 * 256));
    assert_eq!(of("lstm"), (9, 10_000 * 256 + 2048 * (256 + 512 + 2) + 2048 * (512 + 512 + 2)));
    assert_eq!(of("linear"), (2, 2048 * 4096 + 4096));
    assert_eq!(all.items.len(), 8 + 10 + 12 + 9 + 2);
}

#[test]
fn seed002_is_initialised_as_pytorch_does() {
    let (layers, block) = (suite("seed002/layers"), suite("seed002/models/transformer"));
    let find = |suite: &Suite, name: &str| values(suite.items.iter().find(|item| item.name == name).unwrap());
    let uniform = |values: &[f32], limit: f32| {
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(largest <= limit && largest > 0.97 * limit, "{largest} of {limit}");
        let (_, variance, _) = moments(values);
        assert!((variance / f64::from(limit * limit / 3.0) - 1.0).abs() < 0.05, "{variance}");
    };
    uniform(&find(&layers, "linear_small.weight"), 1.0 / 128f32.sqrt());
    uniform(&find(&layers, "conv_3x3.weight"), 1.0 / (32.0 * 9.0f32).sqrt());
    uniform(&find(&block, "transformer.self_attn.in_proj_weight"), (6.0 / 1024.0f32).sqrt());
    uniform(&find(&block, "transformer.linear1.bias"), 1.0 / 256f32.sqrt());
    assert!(find(&block, "transformer.norm1.weight").iter().all(|v| *v == 1.0));
    assert!(find(&block, "transformer.self_attn.in_proj_bias").iter().all(|v| *v == 0.0));
    let (_, variance, fourth) = moments(&find(&layers, "embedding.weight"));
    assert!((variance - 1.0).abs() < 0.02 && (fourth - 3.0).abs() < 0.1);
}

#[test]
fn a_wrong_name_lists_the_suites() {
    for wrong in ["gauss", "seed002", "seed002/", "seed002/models/gpt", ""] {
        let message = Suite::parse(wrong, &SuiteOptions::default()).unwrap_err().to_string();
        for (pattern, _) in catalogue() {
            assert!(message.contains(pattern), "{message}");
        }
    }
    // Every suite in the catalogue exists.
    for (pattern, _) in catalogue().iter().filter(|(pattern, _)| !pattern.starts_with("model:")) {
        assert!(!suite(pattern.split('[').next().unwrap()).items.is_empty());
    }
}

pub(crate) fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories260k")
}

#[test]
fn the_real_model_has_all_its_tensors() {
    let suite = suite(&format!("model:{}", assets().display()));
    assert_eq!(suite.items.len(), 47);
    let hashes: BTreeSet<_> = suite.items.iter().map(|item| suite.hash(item).unwrap()).collect();
    assert!(hashes.len() == 47 && hashes.iter().all(|hash| hash.len() == 64));
    assert!(suite.notes.is_empty());
    assert!(suite.items.iter().all(|item| item.base.is_none() && item.view().is_ok()));
}

/// Writes a checkpoint of zeros with these tensors.
pub(crate) fn checkpoint(directory: &TempDir, file: &str, tensors: &[(&str, Dtype, &[usize])]) -> PathBuf {
    const ZEROS: [u8; 64] = [0; 64];
    let view = |dtype: Dtype, shape: &[usize]| {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        TensorView::new(dtype, shape.to_vec(), &ZEROS[..bytes]).unwrap()
    };
    let views = tensors.iter().map(|(name, dtype, shape)| (*name, view(*dtype, shape)));
    let path = directory.path().join(file);
    fs::write(&path, serialize(views, None).unwrap()).unwrap();
    path
}

#[test]
fn a_base_goes_to_equal_tensors_and_the_others_are_named() {
    let directory = TempDir::new().unwrap();
    let model = checkpoint(
        &directory,
        "tuned.safetensors",
        &[("same", Dtype::F32, &[2, 2]), ("new", Dtype::F32, &[2]), ("reshaped", Dtype::F32, &[4])],
    );
    let base = checkpoint(
        &directory,
        "base.safetensors",
        &[("same", Dtype::F32, &[2, 2]), ("reshaped", Dtype::F32, &[2, 2]), ("dropped", Dtype::I64, &[1])],
    );
    let text = format!("model:{}", model.display());
    let options = SuiteOptions { base: Some(base.clone()), ..Default::default() };
    let suite = Suite::parse(&text, &options).unwrap();
    assert_eq!(suite.name, format!("{text} --base {}", base.display()));
    let with_base: Vec<_> = suite.items.iter().filter(|item| item.base.is_some()).map(|item| &item.name).collect();
    assert_eq!(with_base, ["same"]);
    assert_eq!(suite.items.len(), 3);
    for name in ["new", "reshaped", "dropped"] {
        assert!(suite.notes.iter().any(|note| note.starts_with(name)), "{:?}", suite.notes);
    }
    let error = Suite::parse("gaussian", &options).unwrap_err();
    assert!(matches!(error, SuiteError::Base(_)), "{error}");
}

#[test]
fn a_cast_changes_floats_and_names_the_others() {
    let directory = TempDir::new().unwrap();
    let model = checkpoint(&directory, "model.safetensors", &[("w", Dtype::F32, &[2, 2]), ("ids", Dtype::I64, &[3])]);
    let options = SuiteOptions { base: Some(model.clone()), cast: Some(Dtype::BF16), ..Default::default() };
    let suite = Suite::parse(&format!("model:{}", model.display()), &options).unwrap();
    let find = |name| suite.prepared(suite.items.iter().find(|item| item.name == name).unwrap()).unwrap();
    assert_eq!((find("w").spec.dtype(), find("ids").spec.dtype()), (Dtype::BF16, Dtype::I64));
    assert!(find("w").view().is_ok() && find("w").base_view().unwrap().is_some());
    assert!(suite.name.ends_with(" --cast bf16"), "{}", suite.name);
    assert!(suite.notes.iter().any(|note| note.starts_with("ids")), "{:?}", suite.notes);

    let cast = |dtype| Suite::parse("gaussian:8x8", &SuiteOptions { cast: Some(dtype), ..Default::default() });
    let half = cast(Dtype::F16).unwrap();
    assert_eq!(half.prepared(&half.items[0]).unwrap().data, self::suite("gaussian:8x8:f16").items[0].data);
    assert!(matches!(cast(Dtype::I8), Err(SuiteError::Cast(Dtype::I8))));
}

#[test]
fn a_missing_model_is_named() {
    let message = Suite::parse("model:no/such/model", &SuiteOptions::default()).unwrap_err().to_string();
    assert!(message.contains("no/such/model"), "{message}");
}
