//! Reads the small trained model in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::Checkpoint;
use codec_api::Dtype;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/stories260k")
}

#[test]
fn directory_and_file_are_the_same_model() {
    let by_directory = Checkpoint::open(directory()).unwrap();
    let by_file = Checkpoint::open(directory().join("model.safetensors")).unwrap();
    assert_eq!(by_directory.files(), by_file.files());
    assert_eq!(by_directory.names().collect::<Vec<_>>(), by_file.names().collect::<Vec<_>>());
    assert_eq!(by_directory.hash().unwrap(), by_file.hash().unwrap());
    assert_eq!(by_directory.metadata().get("format").unwrap(), "pt");
}

#[test]
fn it_is_the_llama_that_its_config_describes() {
    let model = Checkpoint::open(directory()).unwrap();
    let (layers, d, kv, hidden, vocab) = (5, 64, 32, 172, 512);
    let layer = 2 * d * d + 2 * kv * d + 3 * hidden * d + 2 * d;
    let elements: usize = model.names().map(|name| model.spec(name).unwrap().elements()).sum();
    assert_eq!(model.len(), 9 * layers + 2);
    assert_eq!(elements, vocab * d + layers * layer + d);
    assert_eq!(elements, 260_032);
    assert!(model.names().all(|name| model.spec(name).unwrap().dtype() == Dtype::F32));
    assert_eq!(model.spec("model.layers.4.self_attn.k_proj.weight").unwrap().shape(), [kv, d]);
}

#[test]
fn its_tensors_are_the_file_behind_the_header() {
    let model = Checkpoint::open(directory()).unwrap();
    let file = fs::read(directory().join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let data: Vec<u8> = model.names().flat_map(|name| model.tensor(name).unwrap().bytes()).copied().collect();
    assert!(data == file[8 + header..]);
    let norm = model.tensor("model.norm.weight").unwrap().to_finite_f32().unwrap();
    assert!(norm.iter().all(|v| (0.01..100.0).contains(v)), "no trained norm: {norm:?}");
}
