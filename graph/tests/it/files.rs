//! Graphs in files: the same values, and refusals of damaged and foreign ones.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use codec_api::{EncodeCx, EncodedTensor, Registry, TensorView};
use graph::{Error, Graph, Source};
use safetensors::{Dtype, tensor};

use crate::values::numbers;

fn registry() -> Registry {
    Registry::linked().unwrap()
}

/// A model with one tensor of 20 rows.
pub(crate) fn model(path: &Path, values: &[f32]) {
    let view = tensor::TensorView::new(Dtype::F32, vec![20, values.len() / 20], bytemuck::cast_slice(values)).unwrap();
    tensor::serialize_to_file([("w", view)], None, path).unwrap();
}

#[test]
fn a_graph_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = (folder.path().join("base.safetensors"), folder.path().join("merged.safetensors"));
    model(&base, &numbers(20_000, 1));
    let graph = Graph::new();
    let w = graph.tensor(&Source::open(&base, &registry()).unwrap(), "w").unwrap();
    let delta = graph.array([20, 1000], numbers(20_000, 2)).unwrap();
    let values = numbers(20_000, 3);
    let view = TensorView::from_f32([20, 1000], &values).unwrap();
    let codec = registry().parse_spec("quant.int:bits=4").unwrap();
    let encoded = EncodedTensor::encode(Arc::clone(&codec), view, &EncodeCx::new(0)).unwrap();
    let payload = graph.encoded(&Arc::new(encoded)).unwrap();
    let noise = graph.random([20, 1000], 7, 0.1).unwrap();
    let sum = graph.weighted_sum(&[w, delta, payload, noise], &[1.0, 0.5, -0.25, 1.0]).unwrap();
    let twice = graph.add(sum, graph.mul(delta, graph.scalar(f32::MIN_POSITIVE).unwrap()).unwrap()).unwrap();
    let quantised = graph.quantise(twice, codec, 0).unwrap();
    graph.save(&[("sum", twice), ("q", quantised)], &path).unwrap();
    // The shared array is there once, with 4 bytes for each value.
    let bytes = fs::metadata(&path).unwrap().len();
    assert!((80_000 + 10_000..80_000 + 15_000).contains(&bytes), "{bytes}");
    let (read, outputs) = Graph::open(&path, &registry()).unwrap();
    assert_eq!(read.len(), graph.len());
    for (name, node) in [("sum", twice), ("q", quantised)] {
        assert_eq!(read.eval(outputs[name]).unwrap(), graph.eval(node).unwrap());
    }

    model(&base, &numbers(20_000, 9));
    let error = Graph::open(&path, &registry()).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert!(["base.safetensors", "`w`", "blake3", "give the file"].iter().all(|part| error.to_string().contains(part)));
    fs::remove_file(&base).unwrap();
    let error = Graph::open(&path, &registry()).unwrap_err().to_string();
    assert!(error.contains("base.safetensors") && error.contains("does not exist"), "{error}");
}

/// The error of a file with this structure.
fn refused(structure: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.safetensors");
    let metadata = [("netweight_graph".to_owned(), structure.to_owned())].into();
    let tensors: [(&str, tensor::TensorView<'_>); 0] = [];
    tensor::serialize_to_file(tensors, Some(metadata), &path).unwrap();
    let error = Graph::open(&path, &registry()).unwrap_err().to_string();
    assert!(error.contains("graph.safetensors"), "{error}");
    error
}

#[test]
fn hostile_files_are_refused() {
    let nodes = |nodes: &str| refused(&format!("{{\"version\":1,\"nodes\":[{nodes}],\"outputs\":{{}}}}"));
    let leaf = "{\"leaf\":\"values\",\"shape\":[1],\"bits\":[0]}";
    let cases = [
        (nodes("{\"operation\":{\"operation\":\"softmax\"},\"operands\":[0]}"), "cycle"),
        (
            nodes(&format!("{leaf},{{\"operation\":{{\"operation\":\"softmax\"}},\"operands\":[4000000000]}}")),
            "4000000000",
        ),
        (nodes(&format!("{leaf},{{\"operation\":{{\"operation\":\"melt\"}},\"operands\":[0]}}")), "melt"),
        (
            nodes(&format!(
                "{leaf},{{\"operation\":{{\"operation\":\"scale\",\"factor\":1.0,\"more\":2}},\"operands\":[0]}}"
            )),
            "more",
        ),
        (
            nodes(&format!("{leaf},{{\"operation\":{{\"operation\":\"scale\",\"factor\":1e99}},\"operands\":[0]}}")),
            "node 1",
        ),
        (nodes("{\"leaf\":\"random\",\"shape\":[4294967296,4294967296],\"seed\":1,\"deviation\":1}"), "elements"),
        (nodes("{\"leaf\":\"values\",\"shape\":[9000000],\"bits\":[0]}"), "9000000"),
        (nodes("{\"leaf\":\"array\",\"tensor\":\"nothing\"}"), "nothing"),
        (nodes("{\"leaf\":\"cloud\"}"), "cloud"),
        (refused("{\"version\":2,\"nodes\":[],\"outputs\":{},\"new\":1}"), "version 2"),
        (refused("{\"version\":1,\"nodes\":1000000000,\"outputs\":{}}"), "1000000000"),
        (refused("{\"version\":1,\"nodes\":[],\"outputs\":{\"w\":7}}"), "output `w`"),
        (refused(&format!("{{\"version\":1,\"nodes\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000))), "nested"),
    ];
    for (error, part) in cases {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}
