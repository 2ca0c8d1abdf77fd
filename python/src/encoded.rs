//! Single encoded tensors.

use bytes::Bytes;
use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Progress};
use numpy::PyReadwriteArray1;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::error::{Error, Result};
use crate::guest::registry;
use crate::raw::Given;
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

    /// Bytes of the decoded tensor, if they are no more than its payload or `max_bytes` justify.
    fn output_bytes(&self, max_bytes: Option<u64>) -> Result<u64> {
        let (bytes, payload) = (self.tensor.spec.byte_len() as u64, self.tensor.payload.bytes());
        if self.ours || bytes <= max_bytes.unwrap_or_else(|| DecodeCx::new().output_limit(payload)) {
            return Ok(bytes);
        }
        let remedy = format!("give `max_bytes={bytes}` if you trust it");
        Err(Error::value(format!("a payload of {payload} bytes decodes to {bytes} bytes; {remedy}")))
    }

    /// Decodes into as many bytes as the tensor has.
    fn decode(&self, py: Python<'_>, mut out: PyReadwriteArray1<'_, u8>) -> Result<()> {
        let out = out.as_slice_mut().map_err(|e| Error::value(e.to_string()))?;
        let least = DecodeCx::new().output_limit(self.tensor.payload.bytes());
        let most = if self.ours { u64::MAX } else { least.max(out.len() as u64) };
        work::on_thread(py, None, |state| {
            let cx = DecodeCx::new().with_cancel(state.cancel()).with_max_output(most);
            Ok(self.tensor.decode_stored(&cx, out)?)
        })
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
