//! Graphs in files: the same values, and refusals of damaged and foreign ones.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use checkpoint::Model;
use codec_api::{EncodeCx, EncodedTensor, Registry, TensorView};
use graph::{Error, Graph, Options, Source};
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
    // The hash is compared when the tensor is read.
    let (read, outputs) = Graph::open(&path, &registry()).unwrap();
    assert!(read.eval(outputs["sum"]).is_err());
    let error = read.rows(outputs["sum"], 3..4, &Options::default()).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert!(["base.safetensors", "`w`", "blake3", "give the file"].iter().all(|part| error.to_string().contains(part)));
    fs::remove_file(&base).unwrap();
    let error = Graph::open(&path, &registry()).unwrap_err().to_string();
    assert!(error.contains("base.safetensors") && error.contains("does not exist"), "{error}");
    assert!(error.contains("merged.safetensors") && error.contains("tensor `w`"), "{error}");
}

#[test]
fn outputs_are_the_tensors_of_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = (folder.path().join("base.safetensors"), folder.path().join("sub/model.safetensors"));
    let (floats, integers) = (numbers(2000, 1), (0..60i32).collect::<Vec<_>>());
    let w = tensor::TensorView::new(Dtype::F32, vec![20, 100], bytemuck::cast_slice(&floats)).unwrap();
    let ids = tensor::TensorView::new(Dtype::I32, vec![6, 10], bytemuck::cast_slice(&integers)).unwrap();
    tensor::serialize_to_file([("w", w), ("ids", ids)], None, &base).unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    let graph = Graph::new();
    let source = Source::open(&base, &registry()).unwrap();
    let [w, ids] = ["w", "ids"].map(|name| graph.tensor(&source, name).unwrap());
    assert!(graph.neg(ids).unwrap_err().to_string().contains("I32"));
    let half = graph.cast(graph.scale(w, 0.5).unwrap(), codec_api::Dtype::BF16).unwrap();
    // In this order, and one expression twice.
    let outputs = [("z", half), ("ids", ids), ("again", half), ("b", w)];
    graph.save(&outputs, &path).unwrap();
    let text = fs::read(&path).unwrap();
    assert!(text.windows(20).any(|part| part == b"../base.safetensors\\"), "the path is relative");

    let model = Model::open(&path, &[], &registry()).unwrap();
    assert_eq!(model.names(), ["z", "ids", "again", "b"]);
    let halved: Vec<f32> = floats.iter().map(|v| v * 0.5).collect();
    let halved = codec_api::util::narrowed(codec_api::Dtype::BF16, &halved).unwrap();
    assert!(model.bytes("z").unwrap() == halved && model.rows("again", &(3..7)).unwrap() == halved[600..1400]);
    assert_eq!(model.bytes("ids").unwrap(), bytemuck::cast_slice::<i32, u8>(&integers));
    assert_eq!(model.rows("b", &(19..20)).unwrap(), bytemuck::cast_slice::<f32, u8>(&floats[1900..]));
    assert!(model.rows("b", &(19..21)).unwrap_err().to_string().contains("20 rows"));
    let Model::Computed(computed) = &model else { panic!("it is computed") };
    let first: Vec<_> = (0..4).map(|i| computed.inner().same_as(i)).collect();
    assert_eq!(first, [None, None, Some(0), None]);
    assert!(computed.inner().verify(&codec_api::NoProgress).is_empty());
    assert_eq!(model.files().len(), 2);

    let summary = graph.summary(&[half, w]).unwrap();
    assert_eq!((summary.nodes, summary.depth, summary.leaf_bytes), (3, 2, 8000));
    assert_eq!((summary.results, summary.flops), ((4000, 12_000), 4000.0));
    let picture = graph.picture(&outputs).unwrap();
    assert_eq!(picture.svg().matches("<line ").count(), 2);
    assert!(
        picture.dot().contains("[label=\"cast\\nBF16") && picture.dot().contains("= z = again"),
        "{}",
        picture.dot()
    );
    let mut deep = w;
    for _ in 0..400 {
        deep = graph.neg(graph.scale(deep, 0.5).unwrap()).unwrap();
    }
    let error = graph.picture(&[("deep", deep)]).unwrap_err().to_string();
    assert!(error.contains("801") && error.contains("300"), "{error}");
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
