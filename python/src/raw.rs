//! Tensors as they cross the border: dtype, shape and little-endian bytes. The Python side views
//! the bytes as an array of its dtype.

use bytes::Bytes;
use codec_api::{Dtype, TensorSpec, TensorView};
use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{Error, Result};

/// Bytes that Rust holds, such as a part of a memory map, for `numpy.asarray`: nothing is copied,
/// and the array keeps them alive. They are read-only.
#[pyclass(frozen, module = "netweight._netweight")]
#[derive(Debug)]
pub struct Buffer(Bytes);

#[pymethods]
impl Buffer {
    /// The bytes in numpy's array interface, version 3.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("shape", (self.0.len(),))?;
        interface.set_item("typestr", "|u1")?;
        interface.set_item("data", (self.0.as_ptr().addr(), true))?;
        Ok(interface)
    }
}

/// The bytes of a tensor.
#[derive(Debug)]
pub enum Data {
    /// Decoded for the caller, who may write to them.
    Own(Vec<u8>),
    /// Decoded values.
    Values(Vec<f32>),
    /// Part of a map.
    Shared(Bytes),
}

/// A tensor for Python.
#[derive(Debug)]
pub struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Data,
}

impl Raw {
    /// The bytes of a tensor of this spec.
    pub fn new(spec: &TensorSpec, data: Data) -> Self {
        Self { dtype: spec.dtype(), shape: spec.shape().to_vec(), data }
    }

    /// Rows of the matrix view.
    pub fn matrix(dtype: Dtype, rows: usize, columns: usize, data: Data) -> Self {
        Self { dtype, shape: vec![rows, columns], data }
    }

    /// As a tuple: dtype, shape, and an array or something that `numpy.asarray` takes.
    pub fn into_tuple(self, py: Python<'_>) -> PyResult<(String, Vec<usize>, Bound<'_, PyAny>)> {
        let data = match self.data {
            Data::Own(bytes) => bytes.into_pyarray(py).into_any(),
            Data::Values(values) => values.into_pyarray(py).into_any(),
            Data::Shared(bytes) => Bound::new(py, Buffer(bytes))?.into_any(),
        };
        Ok((self.dtype.to_string(), self.shape, data))
    }
}

/// A tensor from Python.
#[derive(Debug)]
pub struct Given<'py> {
    spec: TensorSpec,
    data: PyReadonlyArray1<'py, u8>,
}

impl Given<'_> {
    /// The bytes, which must be as many as the spec says.
    pub fn view(&self) -> Result<TensorView<'_>> {
        let bytes = self.data.as_slice().map_err(|e| Error::value(e.to_string()))?;
        Ok(TensorView::new(self.spec.clone(), bytes)?)
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let (dtype, shape, data): (String, Vec<usize>, PyReadonlyArray1<'py, u8>) = object.extract()?;
        Ok(Self { spec: TensorSpec::new(parse(&dtype)?, shape).map_err(Error::from)?, data })
    }
}

/// A dtype by its name in safetensors files, such as `BF16`.
pub fn parse(dtype: &str) -> Result<Dtype> {
    let parsed = serde_json::from_value(serde_json::Value::from(dtype));
    parsed.map_err(|_| Error::value(format!("`{dtype}` is no dtype of safetensors")))
}
