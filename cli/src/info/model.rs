//! A model's tensors.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use checkpoint::Checkpoint;
use codec_api::TensorSpec;
use serde::Serialize;

use crate::text;
use crate::text::Align::{Left, Right};

/// Longer metadata is cut off in the text.
const SHOWN: usize = 200;

/// The properties of a model.
#[derive(Debug, Serialize)]
pub struct Model {
    kind: &'static str,
    files: Vec<PathBuf>,
    weights: u64,
    bytes: u64,
    dtypes: BTreeMap<String, Share>,
    blake3: String,
    metadata: BTreeMap<String, String>,
    /// What was not opened, and why.
    notes: Vec<String>,
    tensors: Vec<Tensor>,
}

/// The tensors of one dtype.
#[derive(Debug, Default, Serialize)]
struct Share {
    tensors: usize,
    bytes: u64,
}

/// A tensor of a model.
#[derive(Debug, Serialize)]
pub struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: u64,
}

impl Tensor {
    pub fn new(name: &str, spec: &TensorSpec) -> Self {
        let (dtype, bytes) = (spec.dtype().to_string(), spec.byte_len() as u64);
        Self { name: name.to_owned(), dtype, shape: spec.shape().to_vec(), bytes }
    }

    /// A table that fits into `width`.
    pub fn table(tensors: &[Self], width: Option<usize>) -> String {
        let row = |tensor: &Self| {
            [tensor.name.clone(), tensor.dtype.clone(), text::shape(&tensor.shape), tensor.bytes.to_string()]
        };
        let columns = [("tensor", Left), ("dtype", Left), ("shape", Left), ("bytes", Right)];
        text::table(&columns, tensors.iter().map(row), width)
    }
}

impl Model {
    /// Reads all tensors, for the hash.
    ///
    /// # Errors
    /// [`checkpoint::Error`].
    pub fn read(model: &Checkpoint) -> Result<Self> {
        let (mut tensors, mut weights, mut dtypes) = (Vec::new(), 0, BTreeMap::<String, Share>::new());
        for name in model.names() {
            let spec = model.spec(name)?;
            let tensor = Tensor::new(name, spec);
            let share = dtypes.entry(tensor.dtype.clone()).or_default();
            share.tensors += 1;
            share.bytes += tensor.bytes;
            weights += spec.elements() as u64;
            tensors.push(tensor);
        }
        Ok(Self {
            kind: "model",
            files: model.files().to_vec(),
            weights,
            bytes: tensors.iter().map(|tensor| tensor.bytes).sum(),
            dtypes,
            blake3: model.hash()?.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat(),
            metadata: model.metadata().clone(),
            notes: model.notes().to_vec(),
            tensors,
        })
    }

    /// As text; the table fits into `width`.
    pub fn table(&self, width: Option<usize>) -> String {
        let mut out = Tensor::table(&self.tensors, width);
        let (tensors, weights) = (text::count(self.tensors.len(), "tensor"), self.weights);
        let _ = write!(out, "\n{tensors}, {weights} weights, {} ({} bytes)", text::size(self.bytes), self.bytes);
        for (dtype, share) in &self.dtypes {
            let _ = write!(out, "\n  {dtype}: {}, {}", text::count(share.tensors, "tensor"), text::size(share.bytes));
        }
        for file in &self.files {
            let _ = write!(out, "\nfile: {}", text::path(file));
        }
        for (key, value) in &self.metadata {
            let _ = write!(out, "\nmetadata: {} = {}", text::printable(key), text::printable(&shortened(value)));
        }
        for note in &self.notes {
            let _ = write!(out, "\nnote: {}", text::printable(note));
        }
        let _ = write!(out, "\nblake3 of the tensors: {}", self.blake3);
        out
    }
}

fn shortened(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} … ({} bytes; --json shows all)", &value[..end], value.len()),
        None => value.to_owned(),
    }
}
