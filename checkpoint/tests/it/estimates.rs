//! Sizes that are estimated from samples.

use std::fs;

use checkpoint::{Plan, Recipe, Sample, Trial};
use codec_api::NoProgress;
use half::bf16;

use crate::support::packed::registry;
use crate::support::{Dir, model};

/// More weights than the samples of one codec, of tensors with different entropy.
#[test]
fn the_size_of_a_large_model_is_estimated_from_pieces() {
    let dir = Dir::new();
    let (rows, columns) = (1024, 1024);
    let tensor = |seed: usize, steps: usize| -> Vec<u8> {
        let value = |i: usize| {
            let mixed = (i as u64 ^ (seed as u64) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            bf16::from_f32((mixed % steps as u64) as f32 / steps as f32 - 0.5).to_le_bytes()
        };
        (0..rows * columns).flat_map(value).collect()
    };
    let names: Vec<String> = (0..4).map(|i| format!("w{i}")).collect();
    let shape = [rows, columns];
    let tensors: Vec<_> =
        names.iter().enumerate().map(|(i, name)| (name.as_str(), "BF16", &shape[..], tensor(i, 4 << i))).collect();
    let source = dir.write("model.safetensors", model(&tensors));
    for recipe in ["lossless", "int8"] {
        let target = dir.path().join(format!("{recipe}.nw.safetensors"));
        let plan = Plan::new(&source, &target, &Recipe::built_in(recipe).unwrap(), 0, &registry()).unwrap();
        let samples = plan.samples(&registry()).unwrap();
        assert!(samples.len() >= 4 && samples.len() <= 17, "{samples:?}");
        let encode = |sample: &Sample| {
            let statistics = plan.survey_sample(sample, &registry()).unwrap();
            plan.encode_sample(sample, &statistics, &registry()).unwrap()
        };
        let trials: Vec<Trial> = samples.iter().map(encode).collect();
        assert!(trials.iter().all(|trial| trial.check().unwrap()));
        let estimate = plan.estimate(&trials, 1, &registry()).unwrap();
        assert!(estimate.tried <= 3 << 20, "{}", estimate.tried);
        plan.run(&registry(), &NoProgress).unwrap();
        plan.commit(&registry(), None).unwrap();
        let (found, written) = (estimate.file_bytes as f64, fs::metadata(&target).unwrap().len() as f64);
        assert!((found / written - 1.0).abs() < 0.05, "{recipe}: {found} estimated, {written} written");
        assert_eq!(estimate.shares.iter().map(|share| share.tensors).sum::<usize>(), 4);
    }
}
