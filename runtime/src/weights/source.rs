//! Takes the weights of a model, dense or packed, and checks them.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::{Model, PackedTensor};
use codec_api::util::first_non_finite;
use codec_api::{CodecError, DecodeCx, Dtype, LinearOp, Product, RowReader, TensorSpec};

use super::dense::{Dense, DenseMatrix, Shared};
use super::linear::Linear;
use super::matrix::Matrix;
use super::table::Table;
use crate::error::{Error, Result};
use crate::rows::RowsMatrix;

/// How packed weights stay in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resident {
    /// In their packed form; each product decodes what it needs.
    #[default]
    Packed,
    /// Decoded once to their stored dtype.
    Dense,
}

/// The weights of a model, by name.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    model: &'a Model,
    path: PathBuf,
    names: HashSet<String>,
    resident: Resident,
    bytes: Cell<u64>,
}

/// Operators and rows of a tensor, which share their memory.
struct Opened {
    operators: Vec<Box<dyn LinearOp>>,
    readers: Vec<Arc<dyn RowReader>>,
    bytes: u64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(model: &'a Model, resident: Resident) -> Self {
        let names = model.names().into_iter().map(str::to_owned).collect();
        Self { model, path: place(model), names, resident, bytes: Cell::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Bytes that the weights keep so far.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.bytes.get()
    }

    fn count(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn fail(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::tensor(&self.path, name, reason)
    }

    /// The spec of a tensor, which must have this shape.
    fn spec(&self, name: &str, shape: &[usize]) -> Result<TensorSpec> {
        let spec = self.model.spec(name)?;
        if spec.shape() != shape {
            let reason = format!("its shape is {:?}, but the configuration asks for {shape:?}", spec.shape());
            return Err(self.fail(name, reason));
        }
        if !spec.is_float() {
            return Err(self.fail(name, format!("its dtype is {}; F32, F16 and BF16 are read", spec.dtype())));
        }
        Ok(spec.clone())
    }

    /// A vector of `len` values.
    ///
    /// # Errors
    /// Those of [`Error`] for a tensor that is missing, has another shape or is not finite.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.spec(name, &[len])?;
        let values = match self.model {
            Model::Dense(model) => model.tensor(name)?.to_f32()?.into_owned(),
            Model::Packed(packed) => packed.tensor(name)?.to_f32()?,
        };
        self.check_finite(name, first_non_finite(&values))?;
        self.count(size_of_val(&*values) as u64);
        Ok(values)
    }

    fn check_finite(&self, name: &str, found: Option<usize>) -> Result<()> {
        match found {
            Some(index) => Err(self.fail(name, format!("element {index} is a NaN or an infinity"))),
            None => Ok(()),
        }
    }

    /// The linear layer of a tensor `name.weight`, with the bias `name.bias` if asked for.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn linear(
        &self,
        name: &str,
        (outputs, inputs): (usize, usize),
        rows_are_inputs: bool,
        bias: bool,
    ) -> Result<Linear> {
        let weight = format!("{name}.weight");
        let (matrix, product) = self.oriented(&weight, (outputs, inputs), rows_are_inputs)?;
        let bias = bias.then(|| self.vector(&format!("{name}.bias"), outputs)).transpose()?;
        Ok(Linear::new(matrix, product, bias))
    }

    /// The matrix of a linear layer, and the product that gives the layer's outputs.
    fn oriented(
        &self,
        weight: &str,
        (outputs, inputs): (usize, usize),
        rows_are_inputs: bool,
    ) -> Result<(Arc<Matrix>, Product)> {
        if !rows_are_inputs {
            return Ok((self.matrix(weight, &[outputs, inputs])?, Product::Forward));
        }
        // A dense matrix is turned once; a packed one multiplies as it is.
        self.spec(weight, &[inputs, outputs])?;
        if self.stays_packed(weight)? {
            let opened = self.open(weight, &[inputs, outputs], Product::Transposed)?;
            return Ok((self.counted(opened), Product::Transposed));
        }
        let turned = self.dense(weight, inputs, outputs)?.transposed()?;
        self.count(turned.resident_bytes());
        let operator = Box::new(DenseMatrix::new(Arc::new(turned)));
        Ok((Arc::new(Matrix::new(vec![operator])), Product::Forward))
    }

    /// A matrix whose rows are all axes but the last.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn matrix(&self, name: &str, shape: &[usize]) -> Result<Arc<Matrix>> {
        let opened = self.open(name, shape, Product::Forward)?;
        Ok(self.counted(opened))
    }

    fn counted(&self, opened: Opened) -> Arc<Matrix> {
        self.count(opened.bytes);
        Arc::new(Matrix::new(opened.operators))
    }

    /// The rows of a matrix.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn table(&self, name: &str, rows: usize, columns: usize) -> Result<Table> {
        let opened = self.open(name, &[rows, columns], Product::Forward)?;
        self.count(opened.bytes);
        Ok(Table::new(opened.readers))
    }

    /// The rows of a matrix and the matrix itself, which share their memory.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn tied(&self, name: &str, rows: usize, columns: usize) -> Result<(Table, Linear)> {
        let opened = self.open(name, &[rows, columns], Product::Forward)?;
        self.count(opened.bytes);
        let matrix = Arc::new(Matrix::new(opened.operators));
        Ok((Table::new(opened.readers), Linear::new(matrix, Product::Forward, None)))
    }

    /// Whether the operator of a tensor multiplies with its packed form: it is packed, its codec
    /// can read parts of it, and it is not stored as a difference.
    fn stays_packed(&self, name: &str) -> Result<bool> {
        let Model::Packed(packed) = self.model else { return Ok(false) };
        let tensor = packed.tensor(name)?;
        let (_, columns) = tensor.spec().matrix();
        // A short last axis of a stack is not a row of the matrix view.
        let rows = tensor.spec().shape().last() == Some(&columns);
        Ok(self.resident == Resident::Packed
            && rows
            && !tensor.equals_base()
            && tensor.chunks().all(|chunk| {
                let codec = chunk.codec();
                chunk.encoded().payload.bases().is_empty() && (codec.as_linear().is_some() || codec.as_rows().is_some())
            }))
    }

    /// Opens a tensor, for this product above all.
    fn open(&self, name: &str, shape: &[usize], product: Product) -> Result<Opened> {
        self.spec(name, shape)?;
        if let Model::Packed(packed) = self.model
            && self.stays_packed(name)?
        {
            return self.open_packed(name, packed.tensor(name)?, product);
        }
        let (columns, rows) = (shape.last().copied().unwrap_or(1), shape.iter().rev().skip(1).product());
        let dense = Arc::new(self.dense(name, rows, columns)?);
        let bytes = dense.resident_bytes();
        Ok(Opened { operators: vec![Box::new(DenseMatrix::new(Arc::clone(&dense)))], readers: vec![dense], bytes })
    }

    fn open_packed(&self, name: &str, tensor: PackedTensor<'_>, product: Product) -> Result<Opened> {
        let mut opened = Opened { operators: Vec::new(), readers: Vec::new(), bytes: 0 };
        for chunk in tensor.chunks() {
            let (encoded, cx) = (chunk.checked()?, DecodeCx::new().for_product(product));
            let fail = |error: CodecError| self.fail(name, error.to_string());
            let reader: Arc<dyn RowReader> = Arc::from(encoded.open_rows(&cx).map_err(fail)?);
            // A lossy codec refuses what is not finite.
            if encoded.certificate.exact {
                self.check_rows(name, &*reader, chunk.rows())?;
            }
            let operator: Box<dyn LinearOp> = if let Some(operator) = encoded.own_operator(&cx).map_err(fail)? {
                // Rows that are looked up come from the sections, which the file's map holds.
                let copied = reader.resident_bytes().saturating_sub(encoded.payload.bytes());
                opened.bytes += operator.resident_bytes() + copied;
                operator
            } else {
                opened.bytes += reader.resident_bytes();
                Box::new(RowsMatrix::new(Box::new(Shared(Arc::clone(&reader)))))
            };
            opened.operators.push(operator);
            opened.readers.push(reader);
        }
        Ok(opened)
    }

    /// Checks that all decoded values are finite.
    fn check_rows(&self, name: &str, reader: &dyn RowReader, rows: Range<usize>) -> Result<()> {
        let (all, columns) = reader.shape();
        let at_once = (1 << 16) / columns.max(1) + 1;
        let mut values = vec![0.0; at_once.min(all) * columns];
        for first in (0..all).step_by(at_once) {
            let last = (first + at_once).min(all);
            let values = &mut values[..(last - first) * columns];
            reader.read(first..last, values).map_err(|error| self.fail(name, error.to_string()))?;
            let found = first_non_finite(values);
            self.check_finite(name, found.map(|index| (rows.start + first) * columns + index))?;
        }
        Ok(())
    }

    /// The values in their stored dtype.
    fn dense(&self, name: &str, rows: usize, columns: usize) -> Result<Dense> {
        let dtype: Dtype = self.model.spec(name)?.dtype();
        let dense = match self.model {
            Model::Dense(model) => {
                let stored = model.tensor(name)?;
                let mut dense = Dense::zeros(dtype, rows, columns)?;
                dense.bytes_mut().copy_from_slice(stored.bytes());
                dense
            }
            Model::Packed(packed) => {
                let tensor = packed.tensor(name)?;
                tensor.check_sizes()?;
                let mut dense = Dense::zeros(dtype, rows, columns)?;
                tensor.decode_stored(dense.bytes_mut())?;
                dense
            }
        };
        self.check_finite(name, dense.first_non_finite())?;
        Ok(dense)
    }
}

/// The file of a model, or the directory of its shards.
fn place(model: &Model) -> PathBuf {
    match model {
        Model::Packed(packed) => packed.path().to_owned(),
        Model::Dense(model) => match (model.files(), model.index()) {
            ([file], _) => file.clone(),
            (_, Some(index)) => index.to_owned(),
            (files, None) => files.first().cloned().unwrap_or_default(),
        },
    }
}
