//! Statistics of a trained model.

use std::fs;
use std::path::{Path, PathBuf};

use calibrate::{Calibrated, Collection, Curve, Protocol, Statistics, StepSearch, Text, ends_at, folder};
use checkpoint::{Checkpoint, Model};
use codec_api::{CodecError, InputAxis, Registry};
use runtime::{Layered, Tokenizer};

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

/// Collects statistics of the model into a file.
fn collect(
    protocol: Protocol,
    threads: usize,
    output: &Path,
    each: &mut (dyn FnMut(u64, u64) -> calibrate::Result<()> + Send),
) -> calibrate::Result<()> {
    let model = Model::open(model(), &[], &Registry::linked().expect("a registry")).expect("a model");
    let model = Layered::open(&model).expect("a model");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let collection = Collection::new(&model, "hash", &texts(20), protocol)?;
    pool.install(|| collection.run(output, each))
}

pub fn collected(protocol: Protocol, threads: usize) -> calibrate::Result<Statistics> {
    let place = tempfile::tempdir().expect("a folder");
    let output = place.path().join("statistics.safetensors");
    collect(protocol, threads, &output, &mut |_, _| Ok(()))?;
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 1, "only the output stays");
    Statistics::open(&output)
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
    for threads in [2, 3] {
        let again = collected(protocol(4000, false), threads).expect("statistics");
        assert!(again == found);
    }
}

#[test]
fn a_file_without_statistics_and_one_of_another_version_are_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("statistics.safetensors");
    collect(protocol(1000, true), 1, &path, &mut |_, _| Ok(())).expect("statistics");
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

/// A collection that ends with an error after each of its steps, and in the middle of the next one,
/// goes on there, and writes the same bytes as one that runs through.
#[test]
fn an_interrupted_collection_goes_on() {
    let place = tempfile::tempdir().expect("a folder");
    for forward_only in [false, true] {
        let protocol = protocol(4000, forward_only);
        let [whole, output] = ["whole", "other"].map(|name| place.path().join(format!("{name}-{forward_only}")));
        let mut calls = 0;
        let mut count = |_, _| {
            calls += 1;
            Ok(())
        };
        collect(protocol, 1, &whole, &mut count).expect("statistics");
        let (mut runs, mut behind) = (0, None);
        loop {
            runs += 1;
            // Each step has a call after each of two batches, and one at its end; one comes first.
            let (mut left, mut first) = (4 + runs % 2, None);
            let mut each = |done: u64, all: u64| {
                assert!(*first.get_or_insert(done) <= done && done <= all);
                left -= 1;
                if left == 0 { Err(calibrate::Error::Usage("interrupted".to_owned())) } else { Ok(()) }
            };
            let ended = collect(protocol, 1 + runs % 3, &output, &mut each);
            let first = first.expect("a call");
            assert!(behind.is_none_or(|before| before <= first), "run {runs} goes on");
            behind = Some(first);
            match ended {
                Ok(()) => break,
                Err(error) => assert!(error.to_string().contains("interrupted"), "{error}"),
            }
            assert!(!output.exists() || ends_at(&output));
        }
        assert!((calls / 4..=calls / 2).contains(&runs), "{runs} runs for {calls} calls");
        assert!(fs::read(&whole).expect("a file") == fs::read(&output).expect("a file"));
        assert!(!folder(&output).exists());
    }
}

/// Damaged files are never taken for whole ones, and folders of others stay as they are.
#[test]
fn the_working_folder_of_another_collection_is_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let output = place.path().join("statistics");
    let mut interrupted = |_, _| Err(calibrate::Error::Usage("interrupted".to_owned()));
    collect(protocol(1000, false), 1, &output, &mut interrupted).expect_err("an interruption");
    for other in [protocol(1000, true), protocol(1500, false), Protocol { seed: 4, ..protocol(1000, false) }] {
        let error = collect(other, 1, &output, &mut |_, _| Ok(())).expect_err("another one").to_string();
        assert!(error.contains("statistics.work") && error.contains("of another calibration"), "{error}");
    }
    let mut inner = |_, _| {
        let error = collect(protocol(1000, false), 1, &output, &mut |_, _| Ok(())).expect_err("in use").to_string();
        assert!(error.contains("another process works"), "{error}");
        Ok(())
    };
    collect(protocol(1000, false), 1, &output, &mut inner).expect("statistics");
    let other = place.path().join("mine");
    fs::create_dir(folder(&other)).expect("a folder");
    fs::write(folder(&other).join("letter.txt"), "dear").expect("a file");
    let error = collect(protocol(1000, false), 1, &other, &mut |_, _| Ok(())).expect_err("a letter").to_string();
    assert!(error.contains("mine.work") && error.contains("in the way"), "{error}");
    assert!(folder(&other).join("letter.txt").exists());
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
