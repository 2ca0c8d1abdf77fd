//! Hand-made files: raw header text and bytes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use checkpoint::{Checkpoint, Error};
use tempfile::TempDir;

pub mod base;
pub mod packed;

/// A tensor to write: name, dtype, shape, bytes.
pub type Raw<'a> = (&'a str, &'a str, &'a [usize], Vec<u8>);

/// A safetensors file with this header text and data.
pub fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// One entry of a header.
pub fn entry(name: &str, dtype: &str, shape: &[usize], offsets: [usize; 2]) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":{offsets:?}}}"#)
}

/// A valid file with these tensors in this order.
pub fn model(tensors: &[Raw<'_>]) -> Vec<u8> {
    let (header, data) = parts(tensors);
    file(&header, &data)
}

/// Header text and data of [`model`].
pub fn parts(tensors: &[Raw<'_>]) -> (String, Vec<u8>) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        entries.push(entry(name, dtype, shape, [begin, data.len()]));
    }
    (format!("{{{}}}", entries.join(",")), data)
}

/// A tensor of two f32 values.
pub fn pair(name: &str, values: [f32; 2]) -> Raw<'_> {
    (name, "F32", &[2], floats(&values))
}

pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A temporary directory that is removed when the test ends.
pub struct Dir(TempDir);

impl Dir {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Blocks of an older file are used again: to free them takes some disks milliseconds.
        let mut file = File::options().write(true).create(true).truncate(false).open(&path).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
        file.set_len(bytes.as_ref().len() as u64).unwrap();
        path
    }

    /// Writes an index that lists the shard of each tensor.
    pub fn write_index(&self, places: &[(&str, &str)]) {
        let places: Vec<_> = places.iter().map(|(tensor, shard)| format!(r#""{tensor}":"{shard}""#)).collect();
        let text = format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{{{}}}}}"#, places.join(","));
        self.write("model.safetensors.index.json", text);
    }

    pub fn open(&self) -> Result<Checkpoint, Error> {
        Checkpoint::open(self.path())
    }
}

/// Opens a file with these bytes.
pub fn open(bytes: impl AsRef<[u8]>) -> Result<Checkpoint, Error> {
    Checkpoint::open(Dir::new().write("made.safetensors", bytes))
}

/// Checks that the error message contains every one of `parts`.
#[track_caller]
pub fn assert_says(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}
