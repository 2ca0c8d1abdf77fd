//! What an adapter adds to a tensor of the model, and the tensor with it.

use std::collections::BTreeMap;

use codec_api::{Bytes, TensorSpec};

use super::product::{Axis, Magnitude, Matrix, Product};
use super::{Adapter, Role, Scales};
use crate::error::{Error, Result};
use crate::plan::values;
use crate::source::{Source, Stored};

/// What an adapter adds to a tensor: `scale·left·right`.
#[derive(Debug)]
pub(crate) struct Form {
    /// The tensors of the adapter; for a bias, the left one is the number 1.
    pub(crate) left: Option<String>,
    pub(crate) right: String,
    /// Whether both are transposed first.
    pub(crate) turned: bool,
    pub(crate) scale: f64,
    /// The lengths that DoRA gives to rows or columns.
    pub(crate) magnitude: Option<(Axis, String)>,
}

impl Adapter {
    /// The values of a tensor of the model with this adapter. `base` has those without, if the
    /// model has the tensor.
    ///
    /// # Errors
    /// [`Error::File`] for matrices that do not fit; those of the file.
    pub fn apply(&self, tensor: &str, base: Option<Box<dyn Source>>) -> Result<Box<dyn Source>> {
        let replaced = self.replaced.get(tensor).map(|name| self.stored(name)).transpose()?;
        let Some(base) = replaced.or(base) else {
            return Err(self.fail(format!("neither the model nor the adapter has `{tensor}`")));
        };
        let (_, form) = self.form_of(tensor, base.spec().shape())?;
        match form {
            Some(form) => self.realised(tensor, &form, base),
            None => Ok(base),
        }
    }

    /// What the adapter adds to a tensor of this shape, and what replaces the tensor.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(crate) fn form_of(&self, tensor: &str, shape: &[usize]) -> Result<(Option<&str>, Option<Form>)> {
        let replaced = self.replaced.get(tensor).map(String::as_str);
        let shape = replaced.map(|name| self.tensors.spec(name)).transpose()?.map_or(shape, TensorSpec::shape);
        let of = |end: &str| tensor.strip_suffix(end).and_then(|module| Some((module, self.modules.get(module)?)));
        if let Some((module, roles)) = of(".bias")
            && let Some(bias) = roles.get(&Role::BiasB)
        {
            return Ok((replaced, Some(self.bias(module, roles, bias)?)));
        }
        let form = of(".weight").map(|(module, roles)| self.form(module, roles, shape)).transpose()?;
        Ok((replaced, form.flatten()))
    }

    /// The file of the tensors.
    #[cfg(feature = "graph")]
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The bias of a module, which the adapter adds to.
    fn bias(&self, module: &str, roles: &BTreeMap<Role, String>, bias: &str) -> Result<Form> {
        let a = roles.get(&Role::A).or_else(|| roles.get(&Role::EmbeddingA));
        let rank = a.map(|name| self.extents(name)).transpose()?.map_or(1, |(rank, _)| rank);
        let scale = self.scale(module, rank);
        Ok(Form { left: None, right: bias.to_owned(), turned: false, scale, magnitude: None })
    }

    /// What is added to the weight of a module: `scale·B·A`, and DoRA's magnitudes.
    fn form(&self, module: &str, roles: &BTreeMap<Role, String>, shape: &[usize]) -> Result<Option<Form>> {
        let pair = |a, b| Some((roles.get(&a)?, roles.get(&b)?));
        let (linear, embedding) = (pair(Role::A, Role::B), pair(Role::EmbeddingA, Role::EmbeddingB));
        let Some((a, b)) = linear.or(embedding) else { return Ok(None) };
        let ((rank, kernel), (outputs, ones)) = (self.extents(a)?, self.extents(b)?);
        let fail = |reason: String| self.fail(format!("module `{module}`: {reason}"));
        let columns = ones.iter().product::<usize>();
        if rank != columns || rank == 0 || without_ones(&ones).len() > 1 {
            return Err(fail(format!("`A` has {rank} rows and `B` {columns} columns; both are the rank")));
        }
        let scale = self.scale(module, rank);
        let inputs = kernel.iter().product();
        let is_turned = matches!(&self.scales, Scales::Peft(config) if config.turned);
        let square = outputs == inputs && is_turned;
        // A convolution: the kernels of `A`, and kernels of 1 × 1 that add them up.
        let kernels = without_ones(&shape[1.min(shape.len())..]) == without_ones(&kernel);
        let straight = linear.is_some() && shape.first() == Some(&outputs) && kernels && !square;
        let (left, right, axis) = match (straight, shape == [inputs, outputs] && kernel.len() == 1) {
            (true, _) => (b, a, Axis::Rows),
            // An embedding, or a `Conv1D`, whose weight is `inputs × outputs`.
            (_, true) => (a, b, Axis::Columns),
            _ => {
                let kernel = if kernel.len() > 1 { format!(" in kernels {kernel:?}") } else { String::new() };
                let reason =
                    format!("the model's weight is {shape:?}, but the adapter has {outputs} × {inputs}{kernel}");
                return Err(fail(reason));
            }
        };
        let magnitude = roles.get(&Role::Magnitude).map(|name| (axis, name.clone()));
        Ok(Some(Form { left: Some(left.clone()), right: right.clone(), turned: !straight, scale, magnitude }))
    }

    /// The values of a tensor with what the adapter adds.
    fn realised(&self, tensor: &str, form: &Form, base: Box<dyn Source>) -> Result<Box<dyn Source>> {
        let matrix = |name: &String| {
            let matrix = self.matrix(name)?;
            Ok::<_, Error>(if form.turned { matrix.transposed() } else { matrix })
        };
        let one = || Ok(Matrix { rows: 1, columns: 1, values: vec![1.0].into() });
        let (left, right) = (form.left.as_ref().map_or_else(one, matrix)?, matrix(&form.right)?);
        let product = Product::new(base, left, right, form.scale);
        let mut product = product.map_err(|reason| self.fail(format!("`{tensor}`: {reason}")))?;
        if let Some((axis, name)) = &form.magnitude {
            product = product.with_magnitude(&Magnitude { axis: *axis, values: self.matrix(name)?.values })?;
        }
        Ok(Box::new(product))
    }

    /// Rows of a vector, a matrix, or the kernels of a convolution, and the extents behind them.
    fn extents(&self, name: &str) -> Result<(usize, Vec<usize>)> {
        let spec = self.tensors.spec(name)?;
        if !spec.is_float() {
            return Err(self.fail(format!("`{name}` is {}; F32, F16 and BF16 are read", spec.dtype())));
        }
        match *spec.shape() {
            [columns] => Ok((1, vec![columns])),
            [rows, ref kernel @ ..] if [1, 3].contains(&kernel.len()) => Ok((rows, kernel.to_vec())),
            _ => {
                let reason =
                    format!("`{name}` has the shape {:?}; matrices and 2-D convolutions are merged", spec.shape());
                Err(self.fail(reason))
            }
        }
    }

    /// A tensor as a matrix: a kernel is a row.
    fn matrix(&self, name: &str) -> Result<Matrix<'static>> {
        let (rows, kernel) = self.extents(name)?;
        let (spec, bytes) = self.tensors.bytes(name)?;
        Ok(Matrix { rows, columns: kernel.iter().product(), values: values(&spec, &bytes)?.into() })
    }

    fn stored(&self, name: &str) -> Result<Box<dyn Source>> {
        let (spec, bytes): (TensorSpec, Bytes) = self.tensors.bytes(name)?;
        Ok(Box::new(Stored::new(spec, bytes)?))
    }
}

/// Extents without those of 1 at the end.
fn without_ones(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().rev().take_while(|extent| **extent == 1).count();
    &shape[..(shape.len() - ones).max(1.min(shape.len()))]
}
