//! Single encoded tensors.

use bytes::Bytes;
use codec_api::{CodecError, DecodeCx, EncodeCx, EncodedTensor, Progress};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::error::{Error, Result};
use crate::guest::registry;
use crate::raw::{Data, Given, Raw};
use crate::work;

/// An encoded tensor.
#[pyclass(frozen, module = "netweight._netweight")]
#[derive(Debug)]
pub struct Encoded {
    tensor: EncodedTensor,
    /// Made by this process, so that its output may be of any size.
    ours: bool,
}

/// Encodes a tensor with the codec of this spec.
#[pyfunction]
pub fn encode(py: Python<'_>, tensor: Given<'_>, codec: &str, seed: u64) -> Result<Encoded> {
    let codec = registry()?.parse_spec(codec)?;
    let view = tensor.view()?;
    let tensor = work::on_thread(py, None, |state| {
        let cx = EncodeCx::new(seed).with_cancel(state.cancel());
        Ok(EncodedTensor::encode(codec, view, &cx)?)
    })?;
    Ok(Encoded { tensor, ours: true })
}

#[pymethods]
impl Encoded {
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: PyBackedBytes) -> PyResult<Self> {
        let (bytes, registry) = (Bytes::from_owner(data), registry()?);
        let read = py.detach(|| EncodedTensor::from_bytes(&bytes, &registry));
        Ok(Self { tensor: read.map_err(Error::from)?, ours: false })
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.tensor.to_bytes()).map_err(Error::from)?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        max_bytes: Option<u64>,
    ) -> PyResult<(String, Vec<usize>, Bound<'py, PyAny>)> {
        let most = if self.ours { Some(u64::MAX) } else { max_bytes };
        let bytes = work::on_thread(py, None, |state| {
            let cx = DecodeCx::new().with_cancel(state.cancel());
            let cx = if let Some(most) = most { cx.with_max_output(most) } else { cx };
            self.tensor.decode_bytes(&cx).map_err(|error| match error {
                CodecError::Limit(text) => Error::value(text.replace("DecodeCx::with_max_output", "max_bytes")),
                other => other.into(),
            })
        })?;
        Raw::new(&self.tensor.spec, Data::Own(bytes)).into_tuple(py)
    }

    #[getter]
    fn spec(&self) -> (String, Vec<usize>) {
        (self.tensor.spec.dtype().to_string(), self.tensor.spec.shape().to_vec())
    }

    #[getter]
    fn codec(&self) -> PyResult<String> {
        Ok(registry()?.spec_of(&*self.tensor.codec))
    }

    #[getter]
    fn nbytes(&self) -> u64 {
        self.tensor.payload.bytes()
    }

    /// Exact, largest error, squared error, squared weights.
    #[getter]
    fn certificate(&self) -> (bool, f64, f64, f64) {
        let found = self.tensor.certificate;
        (found.exact, found.max_abs, found.squared_error, found.energy)
    }
}
