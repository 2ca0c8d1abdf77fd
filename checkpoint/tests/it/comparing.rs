//! Differences between two models, dense or packed.

use std::path::Path;

use checkpoint::{Change, Model, Recipe, TensorDiff, diff};
use codec_api::NoProgress;
use half::bf16;

use crate::support::packed::{noise, pack, registry};
use crate::support::{Dir, Raw, floats, model};

fn open(path: &Path) -> Model {
    Model::open(path, &[], &registry()).unwrap()
}

fn compare(first: &Path, second: &Path) -> Vec<TensorDiff> {
    diff(&open(first), &open(second), &NoProgress).unwrap()
}

#[test]
fn every_change_has_its_name_and_figures() {
    let dir = Dir::new();
    let values = [3.0, 4.0, 0.0, 0.0];
    let brain: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
    let tensor = |name, shape: &'static [usize], values: &[f32]| (name, "F32", shape, floats(values));
    let first: Vec<Raw<'_>> = vec![
        tensor("same", &[4], &values),
        tensor("changed", &[4], &values),
        tensor("shape", &[4], &values),
        tensor("dtype", &[4], &values),
        tensor("gone", &[4], &values),
        ("ids", "I32", &[2], noise(8)),
        ("empty", "F32", &[0], Vec::new()),
    ];
    let second: Vec<Raw<'_>> = vec![
        ("ids", "I32", &[2], noise(8)),
        ("dtype", "BF16", &[4], brain),
        tensor("shape", &[2, 2], &values),
        tensor("changed", &[4], &[3.0, 4.5, 0.0, 0.0]),
        tensor("same", &[4], &values),
        tensor("new", &[4], &values),
        ("empty", "F32", &[0], Vec::new()),
    ];
    let [first, second] =
        [("a.safetensors", first), ("b.safetensors", second)].map(|(name, t)| dir.write(name, model(&t)));
    let found = compare(&first, &second);
    let changes: Vec<_> = found.iter().map(|tensor| (tensor.name.as_str(), tensor.change)).collect();
    let expected = [
        ("same", Change::Identical),
        ("changed", Change::Changed),
        ("shape", Change::Reshaped),
        ("dtype", Change::OtherDtype),
        ("gone", Change::Removed),
        ("ids", Change::Identical),
        ("empty", Change::Identical),
        ("new", Change::New),
    ];
    assert_eq!(changes, expected);
    let figures = |i: usize| found[i].difference.map(|found| (found.changed, found.relative, found.max_abs));
    assert_eq!(figures(1), Some((1, Some(0.1), Some(0.5))));
    assert_eq!(figures(2), None);
    assert_eq!(figures(3), Some((0, Some(0.0), Some(0.0))), "these values are numbers of both dtypes");
    assert!(compare(&first, &first).iter().all(|tensor| tensor.change == Change::Identical));
}

/// Chunks of 2048, 2048 and 104 rows against dense pieces of 4096 and 104.
#[test]
fn packed_and_dense_models_are_compared_in_pieces() {
    let dir = Dir::new();
    let (rows, columns) = (4200, 1024);
    let weights: Vec<u8> = (0..rows * columns)
        .flat_map(|i: usize| bf16::from_f32(((i * 7919) % 10_007) as f32 / 3301.0 - 1.5).to_le_bytes())
        .collect();
    let mut changed = weights.clone();
    let last = changed.len() - 1;
    changed[last] ^= 0x80;
    let write = |name: &str, bytes| dir.write(name, model(&[("w", "BF16", &[rows, columns], bytes)]));
    let (source, changed) = (write("a.safetensors", weights), write("b.safetensors", changed));
    let exact = pack(&source, &dir.path().join("exact.nw.safetensors"), &Recipe::default());
    let lossy = pack(&source, &dir.path().join("lossy.nw.safetensors"), &Recipe::built_in("int8").unwrap());
    assert_eq!(compare(&exact, &source)[0].change, Change::Identical);
    for (first, second) in [(&exact, &changed), (&source, &changed), (&changed, &exact)] {
        let difference = compare(first, second)[0].difference.unwrap();
        assert_eq!(difference.changed, 1);
        assert!(difference.max_abs.unwrap() > 0.0 && difference.relative.unwrap() < 1e-2);
    }
    // The difference of a packed model from its source is its certificate.
    let Model::Packed(packed) = open(&lossy) else { panic!("it is packed") };
    let certificate = packed.tensor("w").unwrap().certificate();
    let difference = compare(&source, &lossy)[0].difference.unwrap();
    assert_eq!(difference.max_abs, Some(certificate.max_abs));
    assert!(
        (difference.relative.unwrap() / certificate.rel_frobenius() - 1.0).abs() < codec_api::Certificate::TOLERANCE
    );
}
