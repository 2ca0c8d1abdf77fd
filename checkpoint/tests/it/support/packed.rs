//! Packed models.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use checkpoint::{Plan, Recipe};
use codec_api::{NoProgress, Registry};
use serde_json::Value;
use {
    codec_compose as _, codec_delta as _, codec_lossless as _, codec_lowrank as _, codec_quant as _, codec_sparse as _,
    codec_trellis as _,
};

pub fn registry() -> Registry {
    Registry::linked().unwrap()
}

/// Bytes that compress badly.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Normally distributed values, from their seed.
pub fn gaussian(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    // A sum of twelve uniform numbers has variance 1.
    (0..len).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32).collect()
}

/// Packs a model and returns the path of the packed file.
#[track_caller]
pub fn pack(source: &Path, target: &Path, recipe: &Recipe) -> PathBuf {
    let plan = Plan::new(source, target, recipe, 0, &registry()).unwrap();
    plan.run(&registry(), &NoProgress).unwrap();
    plan.commit(&registry(), Some(&NoProgress)).unwrap();
    plan.target().to_owned()
}

/// Changes the manifest of a packed file, and its checksum with it. A compressed manifest becomes
/// plain text.
pub fn edit_manifest(path: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap();
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let section = header.as_object_mut().unwrap().remove("__netweight__/manifest");
    let compressed = section.map_or(0, |section| section["data_offsets"][1].as_u64().unwrap());
    let data = &bytes[8 + length..];
    let (frame, data) = data.split_at(usize::try_from(compressed).unwrap());
    for (_, entry) in header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__") {
        for offset in entry["data_offsets"].as_array_mut().unwrap() {
            *offset = (offset.as_u64().unwrap() - compressed).into();
        }
    }
    let strings = &header["__metadata__"];
    let text = if frame.is_empty() {
        strings["netweight"].as_str().unwrap().to_owned()
    } else {
        let mut text = String::new();
        zstd::Decoder::with_buffer(frame).unwrap().single_frame().read_to_string(&mut text).unwrap();
        text
    };
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    edit(&mut manifest);
    set_description(&mut header, manifest.to_string());
    fs::write(path, crate::support::file(&header.to_string(), data)).unwrap();
}

/// Sets the metadata string that describes a packed file, and its checksum.
pub fn set_description(header: &mut Value, text: String) {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, text.as_bytes());
    let strings = &mut header["__metadata__"];
    strings["netweight.crc32c"] = format!("{crc:08x}").into();
    strings["netweight"] = text.into();
}
