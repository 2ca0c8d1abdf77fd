//! A model whose tensors are computed when they are read.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::model::Tensor;
use crate::text;

/// The properties of a model of expressions. Nothing is computed for them.
#[derive(Debug, Serialize)]
pub struct Model {
    kind: &'static str,
    file: PathBuf,
    file_bytes: u64,
    weights: u64,
    bytes: u64,
    /// The files that the tensors are computed of.
    sources: Vec<PathBuf>,
    tensors: Vec<Tensor>,
}

impl Model {
    /// # Errors
    /// If the file cannot be read.
    pub fn read(model: &checkpoint::Model) -> Result<Self> {
        let checkpoint::Model::Computed(found) = model else { bail!("it is no model of expressions") };
        let tensors: Vec<Tensor> = found.inner().tensors().iter().map(|(name, spec)| Tensor::new(name, spec)).collect();
        let mut sources = found.inner().files();
        sources.sort();
        sources.dedup();
        Ok(Self {
            kind: "expressions",
            file: found.path().to_owned(),
            file_bytes: std::fs::metadata(found.path())?.len(),
            weights: found.inner().tensors().iter().map(|(_, spec)| spec.elements() as u64).sum(),
            bytes: found.inner().tensors().iter().map(|(_, spec)| spec.byte_len() as u64).sum(),
            sources,
            tensors,
        })
    }

    /// As text; the table fits into `width`.
    pub fn table(&self, width: Option<usize>) -> String {
        let mut out = Tensor::table(&self.tensors, width);
        let (tensors, weights) = (text::count(self.tensors.len(), "tensor"), self.weights);
        let (dense, own) = (text::size(self.bytes), text::size(self.file_bytes));
        let _ = write!(out, "\n{tensors}, {weights} weights, {dense} when computed, {own} as expressions");
        let _ = write!(out, "\nfile: {}", text::path(&self.file));
        for source in &self.sources {
            let _ = write!(out, "\ncomputed of: {}", text::path(source));
        }
        let _ = write!(out, "\n`netweight graph` shows the expressions, and `verify` compares what they name");
        out
    }
}
