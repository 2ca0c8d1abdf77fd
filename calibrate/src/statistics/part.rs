//! Statistics of some tensors, on their way to a file.

use std::borrow::Cow;
use std::path::Path;

use codec_api::InputAxis;
use codec_api::util::first_non_finite;
use safetensors::tensor::Dtype;

use super::file::{Records, Stored, TensorRecord, write_part};
use super::gram::Gram;
use crate::error::{Error, Result};

/// A sum, and the number of vectors that it is divided by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean<'a>(pub(super) &'a Gram, pub(super) f64);

/// A curvature of outputs.
pub(super) enum Outputs<'a> {
    Matrix(Mean<'a>),
    Diagonal(Vec<f32>),
}

/// The statistics of some tensors. Sums become means when they are written.
#[derive(Default)]
pub(super) struct Part<'a> {
    records: Records,
    stored: Vec<Stored<'a>>,
    /// The names under which sums of inputs are stored.
    shared: Vec<(Mean<'a>, String)>,
}

impl<'a> Part<'a> {
    /// Adds a tensor; those with the same inputs share what is stored under the name of the first.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a diagonal that is not finite.
    pub(super) fn add(
        &mut self,
        tensor: &str,
        axis: InputAxis,
        inputs: Mean<'a>,
        outputs: Option<Outputs<'a>>,
    ) -> Result<()> {
        let same = |mean: &Mean<'_>| std::ptr::eq(mean.0, inputs.0) && mean.1 == inputs.1;
        let known = self.shared.iter().find(|(mean, _)| same(mean)).map(|(_, name)| name.clone());
        let inputs = known.unwrap_or_else(|| {
            let name = self.matrix(tensor, "inputs", inputs);
            self.shared.push((inputs, name.clone()));
            name
        });
        let outputs = match outputs {
            Some(Outputs::Matrix(mean)) => Some(self.matrix(tensor, "outputs", mean)),
            Some(Outputs::Diagonal(values)) => Some(self.diagonal(tensor, values)?),
            None => None,
        };
        let rows_are_inputs = axis == InputAxis::Rows;
        self.records.insert(tensor.to_owned(), TensorRecord { rows_are_inputs, inputs, outputs });
        Ok(())
    }

    fn matrix(&mut self, tensor: &str, of: &str, Mean(gram, vectors): Mean<'a>) -> String {
        let (name, owner, order) = (format!("{tensor}:{of}"), tensor.to_owned(), gram.order());
        let bytes = move || {
            let values = gram.mean(vectors);
            check(&owner, &values, order)?;
            Ok(Cow::Owned(bytemuck::cast_slice(&values).to_vec()))
        };
        let shape = vec![order, order];
        self.stored.push(Stored { name: name.clone(), dtype: Dtype::F32, shape, bytes: Box::new(bytes) });
        name
    }

    fn diagonal(&mut self, tensor: &str, values: Vec<f32>) -> Result<String> {
        check(tensor, &values, 1)?;
        let (name, shape) = (format!("{tensor}:outputs"), vec![values.len()]);
        let bytes = move || Ok(Cow::Owned(bytemuck::cast_slice(&values).to_vec()));
        self.stored.push(Stored { name: name.clone(), dtype: Dtype::F32, shape, bytes: Box::new(bytes) });
        Ok(name)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a curvature that is not finite; [`Error::File`].
    pub(super) fn write(self, path: &Path) -> Result<()> {
        write_part(path, &self.records, self.stored)
    }
}

fn check(tensor: &str, values: &[f32], order: usize) -> Result<()> {
    match first_non_finite(values) {
        Some(at) => Err(Error::NotFinite { row: at / order.max(1), column: at % order.max(1) }.of(tensor)),
        None => Ok(()),
    }
}
