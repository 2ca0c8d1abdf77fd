//! A model's tensors as text.

use std::fmt::Write;

use checkpoint::Checkpoint;
use checkpoint::contents::{DenseContents, TensorContents};
use serde::Serialize;

use crate::text;
use crate::text::Align::{Left, Right};

/// Longer metadata is cut off in the text.
const SHOWN: usize = 200;

/// The contents of a model, with its hash.
#[derive(Debug, Serialize)]
pub struct Model(DenseContents);

/// A table that fits into `width`.
pub fn table_of(tensors: &[TensorContents], width: Option<usize>) -> String {
    let row = |tensor: &TensorContents| {
        [tensor.name.clone(), tensor.dtype.clone(), text::shape(&tensor.shape), tensor.bytes.to_string()]
    };
    let columns = [("tensor", Left), ("dtype", Left), ("shape", Left), ("bytes", Right)];
    text::table(&columns, tensors.iter().map(row), width)
}

impl Model {
    /// Reads all tensors, for the hash.
    ///
    /// # Errors
    /// [`checkpoint::Error`].
    pub fn read(model: &Checkpoint) -> Result<Self, checkpoint::Error> {
        Ok(Self(DenseContents::read(model)?.with_hash(model)?))
    }

    /// As text; the table fits into `width`.
    pub fn table(&self, width: Option<usize>) -> String {
        let mut out = table_of(&self.0.tensors, width);
        let (tensors, weights) = (text::count(self.0.tensors.len(), "tensor"), self.0.weights);
        let _ = write!(out, "\n{tensors}, {weights} weights, {} ({} bytes)", text::size(self.0.bytes), self.0.bytes);
        for (dtype, share) in &self.0.dtypes {
            let _ = write!(out, "\n  {dtype}: {}, {}", text::count(share.tensors, "tensor"), text::size(share.bytes));
        }
        for file in &self.0.files {
            let _ = write!(out, "\nfile: {}", text::path(file));
        }
        for (key, value) in &self.0.metadata {
            let _ = write!(out, "\nmetadata: {} = {}", text::printable(key), text::printable(&shortened(value)));
        }
        for note in &self.0.notes {
            let _ = write!(out, "\nnote: {}", text::printable(note));
        }
        if let Some(hash) = &self.0.blake3 {
            let _ = write!(out, "\nblake3 of the tensors: {hash}");
        }
        out
    }
}

fn shortened(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} … ({} bytes; --json shows all)", &value[..end], value.len()),
        None => value.to_owned(),
    }
}
