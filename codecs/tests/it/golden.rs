//! Golden files of every format version must always decode to the same bits.

use crate::golden_files as golden;

use std::fs;

use codec_api::{EncodedTensor, Registry};
use codecs as _;

/// Codecs whose library may encode the same data differently in a later version or on another CPU.
const MAY_ENCODE_DIFFERENTLY: [&str; 2] = ["lossless.zstd", "lowrank.svd"];

#[test]
fn every_file_decodes_to_the_bits_it_stands_for() {
    let registry = Registry::linked().unwrap();
    let mut files = 0;
    for entry in fs::read_dir(golden::directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let hash = fs::read_to_string(path.with_extension("blake3")).unwrap();
            assert_eq!(golden::decoded_hash(fs::read(&path).unwrap(), &registry), hash.trim(), "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= golden::presets(&registry).count(), "there are only {files} files");
}

#[test]
fn every_preset_has_a_file_and_encodes_to_it_at_every_level() {
    let registry = Registry::linked().unwrap();
    for (name, codec) in golden::presets(&registry) {
        let path = golden::directory().join(format!("{name}.safetensors"));
        let file =
            fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; `cargo xtask golden` writes it", path.display()));
        // The id may also occur in a child.
        let header = codec_api::header(&*codec).unwrap();
        if MAY_ENCODE_DIFFERENTLY.iter().any(|id| header.contains(&format!(r#""codec":"{id}""#))) {
            continue;
        }
        let read = EncodedTensor::from_bytes(&file.clone().into(), &registry).unwrap();
        for level in simd::Level::available() {
            let mut written = simd::with_level(level, || golden::encode(&codec));
            assert!(written.certificate.agrees_with(&read.certificate), "{name} at {level}");
            written.certificate = read.certificate;
            let same = written.to_bytes().unwrap() == file;
            assert!(same, "{name} at {level}: the bytes differ from those of format version 1");
        }
    }
}
