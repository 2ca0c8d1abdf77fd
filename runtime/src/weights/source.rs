//! Takes the weights of a model, dense or packed, and checks them.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::{Model, PackedTensor};
use codec_api::util::first_non_finite;
use codec_api::{Codec, CodecError, DecodeCx, Dtype, LinearOp, Product, RowReader, TensorView};

use super::dense::{Dense, DenseMatrix};
use super::linear::Linear;
use super::matrix::{Matrix, Operator};
use super::origin::{Form, Origin, Part};
use super::store::Store;
use super::table::Table;
use crate::error::{Error, Result};
use crate::rows::RowsMatrix;

/// How packed weights stay in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resident {
    /// In their packed form: products decode a few rows at a time, or multiply with the codes.
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
    store: Option<Store>,
    /// The layer that is opened, and whether it is an expert's part of it.
    place: Cell<(usize, bool)>,
}

/// What a tensor is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Products(Product),
    /// Rows that are looked up.
    Rows,
    /// Forward products, and rows that are looked up.
    Both,
}

/// Operators and rows of a tensor, for each chunk of a packed one: those that its [`Use`] needs, at
/// least. They are counted.
#[derive(Default)]
struct Opened {
    operators: Vec<Operator>,
    readers: Vec<Arc<dyn RowReader>>,
}

impl<'a> Source<'a> {
    /// With a limit of `memory`, linear layers are loaded on demand.
    pub(crate) fn new(model: &'a Model, resident: Resident, memory: Option<u64>) -> Self {
        let names = model.names().into_iter().map(str::to_owned).collect();
        let store = memory.map(|limit| Store::new(limit, model.pages()));
        Self {
            model,
            path: model.path().to_owned(),
            names,
            resident,
            bytes: Cell::new(0),
            store,
            place: Cell::default(),
        }
    }

    /// Says what the linear layers belong to that are opened next: a layer, and perhaps an expert.
    /// Layers are opened in their order.
    pub(crate) fn set_place(&self, layer: usize, expert: bool) {
        self.place.set((layer, expert));
    }

    /// The store of what is loaded on demand, ready to run, if there is a limit.
    ///
    /// # Errors
    /// [`Error::Usage`] if the limit is too low.
    pub(crate) fn into_store(self) -> Result<Option<Store>> {
        let Some(mut store) = self.store else { return Ok(None) };
        let started = store.start(self.bytes.get());
        let started = started.map_err(|error| Error::Usage(format!("cannot start a thread: {error}")))?;
        match started {
            Ok(()) => Ok(Some(store)),
            Err(needed) => Err(too_little(&self.path, store.demand().limit, self.bytes.get(), needed)),
        }
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

    /// Keeps an operator in memory, or has it loaded on demand from its origin, if it has one.
    fn keep(&self, operator: Box<dyn LinearOp>, origin: impl FnOnce() -> Result<Option<Origin>>) -> Result<Operator> {
        if let Some(store) = &self.store
            && let Some(origin) = origin()?
        {
            return Ok(Operator::OnDemand(store.keep(origin, operator, self.place.get(), self.bytes.get())));
        }
        self.count(operator.resident_bytes());
        Ok(Operator::Here(operator))
    }

    fn fail(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::tensor(&self.path, name, reason)
    }

    /// Checks that a tensor has this shape, and a dtype of floats.
    fn check_spec(&self, name: &str, shape: &[usize]) -> Result<()> {
        let spec = self.model.spec(name)?;
        if spec.shape() != shape {
            let reason = format!("its shape is {:?}, but the configuration asks for {shape:?}", spec.shape());
            return Err(self.fail(name, reason));
        }
        if !spec.is_float() {
            return Err(self.fail(name, format!("its dtype is {}; F32, F16 and BF16 are read", spec.dtype())));
        }
        Ok(())
    }

    /// A vector of `len` values.
    ///
    /// # Errors
    /// Those of [`Error`] for a tensor that is missing, has another shape or is not finite.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.values(name, &[len])
    }

    /// The values of a tensor of this shape.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.check_spec(name, shape)?;
        let values = match self.model {
            Model::Packed(packed) => packed.tensor(name)?.to_f32()?,
            model => TensorView::new(model.spec(name)?.clone(), &model.bytes(name)?)?.to_f32()?.into_owned(),
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
        // A dense matrix is turned once; a packed one multiplies as it is, unless an exact codec
        // has an operator with the bits of the dense one.
        self.check_spec(weight, &[inputs, outputs])?;
        let mut form = Form::Turned;
        if let Some(tensor) = self.packed(weight)? {
            let Some(codec) = exact_operators(tensor) else {
                let opened = self.open_packed(weight, tensor, Use::Products(Product::Transposed))?;
                return Ok((Arc::new(Matrix::new(opened.operators)), Product::Transposed));
            };
            form = Form::Encoded(codec);
        }
        let operator = form.operator(self.dense(weight, inputs, outputs)?);
        let operator = operator.map_err(|error| self.fail(weight, error.to_string()))?;
        let operator = self.keep(operator, || self.dense_origin(weight, (inputs, outputs), form))?;
        Ok((Arc::new(Matrix::new(vec![operator])), Product::Forward))
    }

    /// A matrix whose rows are all axes but the last.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn matrix(&self, name: &str, shape: &[usize]) -> Result<Arc<Matrix>> {
        let opened = self.open(name, shape, Use::Products(Product::Forward))?;
        Ok(Arc::new(Matrix::new(opened.operators)))
    }

    /// The rows of a matrix.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn table(&self, name: &str, rows: usize, columns: usize) -> Result<Table> {
        Ok(Table::new(self.open(name, &[rows, columns], Use::Rows)?.readers))
    }

    /// The rows of a matrix and the matrix itself, which share their memory.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn tied(&self, name: &str, rows: usize, columns: usize) -> Result<(Table, Linear)> {
        let opened = self.open(name, &[rows, columns], Use::Both)?;
        let matrix = Arc::new(Matrix::new(opened.operators));
        Ok((Table::new(opened.readers), Linear::new(matrix, Product::Forward, None)))
    }

    /// A tensor that stays packed: it is packed, its codec can read parts of it, and it is not
    /// stored as a difference.
    fn packed(&self, name: &str) -> Result<Option<PackedTensor<'a>>> {
        let Model::Packed(packed) = self.model else { return Ok(None) };
        let tensor = packed.tensor(name)?;
        let (_, columns) = tensor.spec().matrix();
        // A short last axis of a stack is not a row of the matrix view.
        let rows = tensor.spec().shape().last() == Some(&columns);
        let stays = self.resident == Resident::Packed
            && rows
            && !tensor.equals_base()
            && tensor.chunks().all(|chunk| {
                let codec = chunk.codec();
                chunk.encoded().payload.bases().is_empty() && (codec.as_linear().is_some() || codec.as_rows().is_some())
            });
        Ok(stays.then_some(tensor))
    }

    fn open(&self, name: &str, shape: &[usize], wanted: Use) -> Result<Opened> {
        self.check_spec(name, shape)?;
        if let Some(tensor) = self.packed(name)? {
            return self.open_packed(name, tensor, wanted);
        }
        let (columns, rows) = (shape.last().copied().unwrap_or(1), shape.iter().rev().skip(1).product());
        let dense = Arc::new(self.dense(name, rows, columns)?);
        let operator = Box::new(DenseMatrix::new(Arc::clone(&dense)));
        if let Use::Products(_) = wanted {
            let operator = self.keep(operator, || self.dense_origin(name, (rows, columns), Form::Same))?;
            return Ok(Opened { operators: vec![operator], readers: Vec::new() });
        }
        self.count(dense.resident_bytes());
        Ok(Opened { operators: vec![Operator::Here(operator)], readers: vec![dense] })
    }

    /// Where the values of [`Self::dense`] come from, if they do not need the tensor of a base.
    fn dense_origin(&self, name: &str, (rows, columns): (usize, usize), form: Form) -> Result<Option<Origin>> {
        let (dtype, mut parts) = (self.model.spec(name)?.dtype(), Vec::new());
        match self.model {
            Model::Dense(model) => parts.push(Part::Stored(model.bytes(name)?.1)),
            // It would be computed anew, with all that it is computed of.
            Model::Computed(_) => return Ok(None),
            Model::Packed(packed) => {
                let tensor = packed.tensor(name)?;
                if tensor.equals_base() {
                    return Ok(None);
                }
                for chunk in tensor.chunks() {
                    if !chunk.encoded().payload.bases().is_empty() {
                        return Ok(None);
                    }
                    parts.push(Part::Encoded(chunk.checked()?.clone()));
                }
            }
        }
        Ok(Some(Origin::Dense { parts, dtype, rows, columns, form }))
    }

    fn open_packed(&self, name: &str, tensor: PackedTensor<'_>, wanted: Use) -> Result<Opened> {
        let product = if let Use::Products(product) = wanted { product } else { Product::Forward };
        let (cx, mut opened) = (DecodeCx::new().for_product(product), Opened::default());
        let here = |operator: Box<dyn LinearOp>| {
            self.count(operator.resident_bytes());
            Ok(Operator::Here(operator))
        };
        for chunk in tensor.chunks() {
            let encoded = chunk.checked()?;
            let fail = |error: CodecError| self.fail(name, error.to_string());
            let open_rows = || -> Result<Arc<dyn RowReader>> {
                let reader = Arc::from(encoded.open_rows(&cx).map_err(fail)?);
                // A lossy codec refuses what is not finite.
                if encoded.certificate.exact {
                    self.check_rows(name, &*reader, chunk.rows())?;
                }
                Ok(reader)
            };
            let own = if wanted == Use::Rows { None } else { crate::own_operator(encoded, &cx).map_err(fail)? };
            let origin = || Ok(Some(Origin::Packed(encoded.clone(), product)));
            let keep =
                |operator| if let Use::Products(_) = wanted { self.keep(operator, origin) } else { here(operator) };
            let Some(operator) = own else {
                let reader = open_rows()?;
                let operator = keep(Box::new(RowsMatrix::new(Box::new(Arc::clone(&reader)))))?;
                opened.operators.push(operator);
                opened.readers.push(reader);
                continue;
            };
            opened.operators.push(keep(operator)?);
            if wanted == Use::Both {
                let reader = open_rows()?;
                // Rows that are looked up come from the sections, which the file's map holds.
                self.count(reader.resident_bytes().saturating_sub(encoded.payload.bytes()));
                opened.readers.push(reader);
            } else if encoded.certificate.exact {
                open_rows()?;
            }
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
            Model::Dense(_) | Model::Computed(_) => {
                let mut dense = Dense::zeros(dtype, rows, columns)?;
                dense.bytes_mut().copy_from_slice(&self.model.bytes(name)?);
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

/// The codec of a tensor that an exact codec with an operator encoded.
fn exact_operators(tensor: PackedTensor<'_>) -> Option<Arc<dyn Codec>> {
    let exact = |codec: &dyn Codec| codec.as_lossless().is_some() && codec.as_linear().is_some();
    let mut chunks = tensor.chunks();
    let first = chunks.next().filter(|chunk| exact(chunk.codec()))?;
    chunks.all(|chunk| exact(chunk.codec())).then(|| Arc::clone(&first.encoded().codec))
}

/// The error for a limit of memory below what is needed.
fn too_little(path: &Path, limit: u64, always: u64, needed: u64) -> Error {
    Error::Usage(format!(
        "`{}`: {limit} bytes of memory are too little: {always} bytes of weights are always needed, and the largest \
         matrix that is loaded on demand takes {} bytes; a limit of at least {needed} bytes is needed",
        path.display(),
        needed - always
    ))
}
