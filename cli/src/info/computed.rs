//! A model whose tensors are computed when they are read, as text.

use std::fmt::Write;

use anyhow::{Result, bail};
use checkpoint::contents::ComputedContents;
use serde::Serialize;

use super::model::table_of;
use crate::text;

/// The contents of a model of expressions. Nothing is computed for them.
#[derive(Debug, Serialize)]
pub struct Model(ComputedContents);

impl Model {
    /// # Errors
    /// If the file cannot be read.
    pub fn read(model: &checkpoint::Model) -> Result<Self> {
        let checkpoint::Model::Computed(found) = model else { bail!("it is no model of expressions") };
        Ok(Self(ComputedContents::read(found)?))
    }

    /// As text; the table fits into `width`.
    pub fn table(&self, width: Option<usize>) -> String {
        let mut out = table_of(&self.0.tensors, width);
        let (tensors, weights) = (text::count(self.0.tensors.len(), "tensor"), self.0.weights);
        let (dense, own) = (text::size(self.0.bytes), text::size(self.0.file_bytes));
        let _ = write!(out, "\n{tensors}, {weights} weights, {dense} when computed, {own} as expressions");
        let _ = write!(out, "\nfile: {}", text::path(&self.0.file));
        for source in &self.0.sources {
            let _ = write!(out, "\ncomputed of: {}", text::path(source));
        }
        let _ = write!(out, "\n`netweight graph` shows the expressions, and `verify` compares what they name");
        out
    }
}
