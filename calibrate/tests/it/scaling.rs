//! Scaled channels.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use calibrate::{Scaled, Statistics, Subject, scaled};
use checkpoint::{Checkpoint, Model};
use codec_api::{Codec, CodecError, InputAxis, Registry};
use runtime::{Batch, Differentiable, Layered, Observer};
use safetensors::tensor::{Dtype, TensorView};

use super::statistics::{collected, model, protocol};

/// The inputs of the head.
struct Last(Vec<f32>);

impl Observer for Last {
    fn inputs(&mut self, tensors: &[&str], x: &[f32], _: usize) {
        if tensors.iter().any(|name| name.contains("embed")) {
            self.0.extend_from_slice(x);
        }
    }

    fn gradients(&mut self, _: &str, _: &[f32], _: usize) {}

    fn predicted(&mut self, _: &[f64]) {}
}

fn opened(path: &Path) -> Model {
    Model::open(path, &[], &Registry::linked().expect("a registry")).expect("a model")
}

fn open(path: &Path) -> Differentiable {
    Differentiable::open(&opened(path)).expect("a model")
}

fn last(path: &Path, statistics: &Statistics) -> Vec<f32> {
    let (model, views) = (opened(path), [&*statistics.sequences[0]]);
    let (model, batch) = (Layered::open(&model).expect("a model"), Batch { sequences: &views, first: 0 });
    let mut x = model.embedding().expect("a table").run(&batch).expect("vectors");
    for number in 0..model.config().layers {
        x = model.layer(number).expect("a layer").forward(&batch, &x, None).expect("vectors");
    }
    let mut last = Last(Vec::new());
    model.head().expect("a head").run(&batch, &x, None, &mut last).expect("predictions");
    last.0
}

fn scale(statistics: &Statistics, threads: usize) -> Scaled {
    let (source, registry) = (Checkpoint::open(model()).expect("a model"), Registry::linked().expect("a registry"));
    let codec: Arc<dyn Codec> = registry.parse_spec("quant.int:bits=3:group=64:symmetric=false").expect("a codec");
    let choice = |_: &str, _: InputAxis| Ok(Some(Arc::clone(&codec)));
    let subject = Subject { source: &source, model: &open(&model()), statistics, seed: 0 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| scaled(subject, &choice)).expect("scales")
}

/// The scaled model has the same outputs without quantisation, with smaller errors in most groups
/// and larger ones in none, and any number of threads gives the same scales.
#[test]
fn scales_lower_the_errors_and_change_nothing_else() {
    let statistics = collected(protocol(3000, false), 2).expect("statistics");
    let found = scale(&statistics, 2);
    assert_eq!(found.groups.len(), 20);
    assert!(found.groups.iter().all(|(exponent, ratio)| (0.0..1.0).contains(exponent) && *ratio <= 1.0));
    let better = found.groups.iter().filter(|(_, ratio)| *ratio < 0.99).count();
    assert!(better >= 15, "{:?}", found.groups);
    assert!(found.tensors == scale(&statistics, 1).tensors);

    let (place, source) = (tempfile::tempdir().expect("a folder"), Checkpoint::open(model()).expect("a model"));
    let mut tensors = BTreeMap::new();
    for name in source.names() {
        let tensor = source.tensor(name).expect("a tensor");
        let values = found.tensors.get(name).cloned();
        let values = values.unwrap_or_else(|| tensor.to_f32().expect("weights").into_owned());
        tensors.insert(name.to_owned(), (tensor.spec().shape().to_vec(), values));
    }
    let views = tensors.iter().map(|(name, (shape, values))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).expect("a tensor"))
    });
    let bytes = safetensors::serialize(views, None).expect("a file");
    fs::write(place.path().join("model.safetensors"), bytes).expect("a file");
    fs::copy(model().join("config.json"), place.path().join("config.json")).expect("a file");
    let (dense, folded) = (last(&model(), &statistics), last(place.path(), &statistics));
    let largest = dense.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let differs = dense.iter().zip(&folded).fold(0.0, |differs: f32, (a, b)| differs.max((a - b).abs()));
    assert!(!dense.is_empty() && differs < 1e-4 * largest, "{differs} of {largest}");
}

#[test]
fn layers_without_statistics_and_codecs_that_refuse_are_errors() {
    let statistics = collected(protocol(1000, true), 2).expect("statistics");
    let source = Checkpoint::open(model()).expect("a model");
    let (of, registry) = (open(&model()), Registry::linked().expect("a registry"));
    let run = |statistics: &Statistics, spec: &str| {
        let codec = |_: &str, _: InputAxis| {
            registry.parse_spec(spec).map(Some).map_err(|error| calibrate::Error::Codec(CodecError::codec(error)))
        };
        let subject = Subject { source: &source, model: &of, statistics, seed: 0 };
        scaled(subject, &codec).expect_err("a refusal").to_string()
    };
    let refused = run(&statistics, "quant.q4_k");
    assert!(refused.contains("layers.0.self_attn.q_proj") && refused.contains("256"), "{refused}");
    let mut empty = statistics;
    empty.tensors.clear();
    assert!(run(&empty, "quant.int").contains("q_proj"));
}
