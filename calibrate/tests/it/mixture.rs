//! Mixtures of experts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use calibrate::{Calibrated, Collection, Curve, Protocol, Sequential, Statistics, Subject, Text};
use checkpoint::{Checkpoint, Model};
use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};
use codec_api::{Codec, CodecError, InputAxis, Registry};
use runtime::{Differentiable, Layered};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/models").join(name)
}

fn open(name: &str) -> Model {
    Model::open(path(name), &[], &Registry::linked().expect("a registry")).expect("a model")
}

fn collected(name: &str, tokens: usize, threads: usize) -> Statistics {
    let (model, place) = (open(name), tempfile::tempdir().expect("a folder"));
    let (model, output) = (Layered::open(&model).expect("a model"), place.path().join("statistics"));
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let ids = (0..2 * tokens).map(|_| (random.next_u64() % model.config().vocabulary as u64) as u32).collect();
    let protocol = Protocol { context: 64, tokens, seed: 1, forward_only: false };
    let texts = [Text { ids, first_sequence: false }];
    let collection = Collection::new(&model, "hash", &texts, protocol).expect("a collection");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| collection.run(&output, &mut |_, _| Ok(()))).expect("statistics");
    let found = Statistics::open(&output).expect("statistics");
    assert_eq!(found.tensors.len(), collection.matrices());
    found
}

fn matrix(curve: &Curve) -> &[f32] {
    let Curve::Matrix { values, .. } = curve else { return &[] };
    values
}

/// Each token meets two experts: the curvatures of their inputs, which have the shares of the
/// experts, add up to twice that of the router.
#[test]
fn shares_of_experts_add_up() {
    for (name, prefix, gate, count) in
        [("mixtral", "model.layers.1.block_sparse_moe.", "w1", 4), ("qwen3-moe", "model.layers.1.mlp.", "gate_proj", 6)]
    {
        let found = collected(name, 5000, 1);
        assert!(found == collected(name, 5000, 3), "{name}");
        let router = matrix(&found.tensors[&format!("{prefix}gate.weight")].inputs);
        let expert = |number: usize| &found.tensors[&format!("{prefix}experts.{number}.{gate}.weight")];
        let experts: Vec<&[f32]> = (0..count).map(|number| matrix(&expert(number).inputs)).collect();
        let largest = router.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        for (at, value) in router.iter().enumerate() {
            let sum: f32 = experts.iter().map(|values| values[at]).sum();
            assert!((sum - 2.0 * value).abs() < 1e-3 * largest, "{name}: {sum}, {value}");
        }
        let outputs = (0..count).map(|number| matrix(expert(number).outputs.as_ref().expect("both")));
        assert!(outputs.clone().all(|values| values[0] > 0.0) && outputs.count() == count);
    }
}

/// With few tokens, experts have the curvature of all, times their share.
#[test]
fn experts_with_few_tokens_use_the_statistics_of_all() {
    let found = collected("mixtral", 100, 2);
    let name = |number: usize| format!("model.layers.0.block_sparse_moe.experts.{number}.w2.weight");
    let [first, second] = [0, 1].map(|number| &found.tensors[&name(number)]);
    assert!(first.outputs == second.outputs);
    let (first, second) = (matrix(&first.inputs), matrix(&second.inputs));
    let ratio = first[0] / second[0];
    assert!(first.iter().zip(second).all(|(a, b)| (a - ratio * b).abs() <= 1e-5 * (a.abs() + b.abs())), "{ratio}");
    Calibrated::new(&found, 0.05).expect("factors");
}

/// All matrices are encoded, and more bits have a smaller divergence.
#[test]
fn a_mixture_is_compressed() {
    for name in ["mixtral", "qwen3-moe"] {
        let (statistics, dense) = (collected(name, 5000, 2), open(name));
        let (source, model) = (Checkpoint::open(path(name)).expect("a model"), Differentiable::open(&dense));
        let (model, registry) = (model.expect("a model"), Registry::linked().expect("a registry"));
        let calibrated = Calibrated::new(&statistics, 0.02).expect("factors");
        let subject = Subject { source: &source, model: &model, statistics: &statistics, seed: 0 };
        let run = |spec: &str| {
            let choice = |_: &str, _: InputAxis| -> calibrate::Result<Option<Arc<dyn Codec>>> {
                registry.parse_spec(spec).map(Some).map_err(|error| calibrate::Error::Codec(CodecError::codec(error)))
            };
            let found = Sequential { subject, calibrated: &calibrated }.run(&choice).expect("a compression");
            assert_eq!(found.payloads.len(), statistics.tensors.len(), "{name}");
            found.divergence.expect("held-out sequences")
        };
        let [coarse, fine] = ["quant.int:bits=3:group=32", "quant.int:bits=6:group=32"].map(run);
        assert!(fine > 0.0 && fine < 0.2 * coarse && coarse < 1.0, "{name}: {fine}, {coarse}");
    }
}
