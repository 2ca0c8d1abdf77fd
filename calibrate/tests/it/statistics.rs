//! Statistics of a trained model.

use std::fs;
use std::path::{Path, PathBuf};

use calibrate::{Calibrated, Curve, Protocol, Statistics, StepSearch, Text, collect};
use checkpoint::{Checkpoint, Model};
use codec_api::{CodecError, InputAxis, Registry};
use runtime::{Differentiable, Tokenizer};

pub fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories260k")
}

fn texts(count: usize) -> Vec<Text> {
    let tokenizer = Tokenizer::open(&model()).expect("a tokenizer");
    let file = model().join("../tinystories/eval.jsonl");
    let lines = fs::read_to_string(file).expect("texts");
    let text = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let ids = tokenizer.encode(value["text"].as_str().expect("a text")).expect("tokens");
        Text { ids, first_sequence: true }
    };
    lines.lines().take(count).map(text).collect()
}

pub fn protocol(tokens: usize, forward_only: bool) -> Protocol {
    Protocol { context: 256, tokens, seed: 3, forward_only }
}

pub fn collected(protocol: Protocol, threads: usize) -> calibrate::Result<Statistics> {
    let model = Model::open(model(), &[], &Registry::linked().expect("a registry")).expect("a model");
    let model = Differentiable::open(&model).expect("a model");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let texts = texts(20);
    pool.install(|| collect(&model, "hash", &texts, protocol, |_, _| Ok(())))
}

#[test]
fn statistics_are_those_of_every_matrix_with_any_number_of_threads() {
    let found = collected(protocol(4000, false), 1).expect("statistics");
    assert_eq!((found.tensors.len(), found.about.model.as_str()), (36, "hash"));
    assert!((3500..=4000).contains(&found.tokens()), "{}", found.tokens());
    let held_out: usize = found.held_out.iter().map(Vec::len).sum();
    assert!((250..=500).contains(&held_out), "{held_out}");
    assert!(found.held_out.iter().all(|ids| !found.sequences.contains(ids)));
    for (name, tensor) in &found.tensors {
        assert_eq!(tensor.axis, InputAxis::Columns, "{name}");
        for curve in [Some(&tensor.inputs), tensor.outputs.as_ref()] {
            match curve.expect("both") {
                Curve::Matrix { order, values } => {
                    assert!((0..*order).all(|i| values[i * order + i] > 0.0), "{name}");
                    assert!((0..order * order).all(|at| values[at] == values[at % order * order + at / order]));
                }
                Curve::Diagonal(values) => assert!(values.iter().all(|value| *value > 0.0), "{name}"),
            }
        }
    }
    let again = collected(protocol(4000, false), 3).expect("statistics");
    assert!(again == found);
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("statistics.safetensors");
    found.save(&path).expect("a file");
    let read = Statistics::open(&path).expect("statistics");
    assert!(read == found);
    let error = Statistics::open(&model().join("model.safetensors")).expect_err("no statistics").to_string();
    assert!(error.contains("it has no statistics; `netweight calibrate` makes"), "{error}");
    let other = path.with_file_name("other.safetensors");
    let mut older = std::fs::read(&path).expect("a file");
    let version = br#"version\":2"#;
    let at = older.windows(version.len()).position(|part| part == version).expect("the version");
    older[at + version.len() - 1] = b'1';
    std::fs::write(&other, older).expect("a file");
    let error = Statistics::open(&other).expect_err("another version").to_string();
    assert!(error.contains("format version 1 is not supported") && error.contains("makes such a file anew"), "{error}");
}

#[test]
fn passes_forward_alone_give_the_same_inputs() {
    let [both, forward] = [false, true].map(|only| collected(protocol(2000, only), 1).expect("statistics"));
    for (name, tensor) in &forward.tensors {
        if name.contains("layers") {
            assert!(tensor.outputs.is_none() && tensor.inputs == both.tensors[name].inputs, "{name}");
        }
    }
    assert_eq!(forward.tensors.len(), both.tensors.len());
}

#[test]
fn too_little_text_is_refused() {
    let error = collected(protocol(50, false), 1).expect_err("too little").to_string();
    assert!(error.contains("too few: a layer has 64 inputs; give more text"), "{error}");
}

/// The search meets the size from below, and a larger size has a smaller step.
#[test]
fn a_step_meets_a_size() {
    let statistics = collected(protocol(4000, false), 2).expect("statistics");
    let calibrated = Calibrated::new(&statistics, 0.05).expect("factors");
    let model = Checkpoint::open(model()).expect("a model");
    let names: Vec<&str> = calibrated.tensors().map(|(name, _)| name).collect();
    let search = StepSearch { model: &model, calibrated: &calibrated, names: &names, seed: 0 };
    let registry = Registry::linked().expect("a registry");
    let codec = |step: f64, _| {
        let codec = registry.parse_spec(&format!("trellis.columns:step={step:e}"));
        codec.map_err(|error| calibrate::Error::Codec(CodecError::codec(error)))
    };
    let steps = [80_000.0, 110_000.0].map(|bytes| search.run(bytes, None, &codec).expect("a step"));
    assert!(steps[0] > 1.3 * steps[1], "{steps:?}");
    let error = search.run(100.0, None, &codec).expect_err("too small").to_string();
    assert!(error.contains("the size is too small"), "{error}");
}
