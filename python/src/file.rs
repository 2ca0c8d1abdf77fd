//! An open model: its tensors are read one by one.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use checkpoint::Model;
use codec_api::Dtype;
use codec_api::util::zeros;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::{Error, Result};
use crate::guest::registry;
use crate::raw::{Data, Raw};
use crate::work;

/// The file behind `netweight.open`. Threads may share it.
#[pyclass(frozen, module = "netweight._netweight")]
#[derive(Debug)]
pub struct File(Mutex<Option<Arc<Model>>>);

type Tuple<'py> = (String, Vec<usize>, Bound<'py, PyAny>);

#[pymethods]
impl File {
    #[new]
    fn new(py: Python<'_>, path: PathBuf, bases: Vec<PathBuf>) -> PyResult<Self> {
        let registry = registry()?;
        let model = work::apart(py, None, move |_| Ok(Model::open(path, &bases, &registry)?))?;
        Ok(Self(Mutex::new(Some(Arc::new(model)))))
    }

    /// Arrays that were read stay valid.
    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[getter]
    fn kind(&self) -> PyResult<&'static str> {
        Ok(match &*self.model()? {
            Model::Dense(_) => "dense",
            Model::Packed(_) => "packed",
            Model::Computed(_) => "computed",
        })
    }

    fn keys(&self) -> PyResult<Vec<String>> {
        Ok(self.model()?.names().into_iter().map(str::to_owned).collect())
    }

    fn spec(&self, name: &str) -> PyResult<(String, Vec<usize>)> {
        let model = self.model()?;
        let spec = model.spec(name).map_err(Error::from)?;
        Ok((spec.dtype().to_string(), spec.shape().to_vec()))
    }

    fn read<'py>(&self, py: Python<'py>, name: String) -> PyResult<Tuple<'py>> {
        let model = self.model()?;
        let raw = match &*model {
            // The pages are read when the array is.
            Model::Dense(dense) => {
                let (spec, bytes) = dense.bytes(&name).map_err(Error::from)?;
                Raw::new(&spec, Data::Shared(bytes))
            }
            _ => work::apart(py, None, move |_| whole(&model, &name))?,
        };
        raw.into_tuple(py)
    }

    fn rows<'py>(&self, py: Python<'py>, name: String, first: usize, last: usize) -> PyResult<Tuple<'py>> {
        let model = self.model()?;
        work::apart(py, None, move |_| rows(&model, &name, first..last))?.into_tuple(py)
    }
}

impl File {
    fn model(&self) -> PyResult<Arc<Model>> {
        let model = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        model.clone().ok_or_else(|| PyValueError::new_err("the file is closed"))
    }
}

fn whole(model: &Model, name: &str) -> Result<Raw> {
    let spec = model.spec(name)?;
    let data = match model {
        Model::Packed(packed) => packed.tensor(name)?.decode_bytes()?,
        _ => model.bytes(name)?.into(),
    };
    Ok(Raw::new(spec, Data::Own(data)))
}

/// Rows of the matrix view. Of a packed float tensor, only these are decoded.
fn rows(model: &Model, name: &str, rows: Range<usize>) -> Result<Raw> {
    let spec = model.spec(name)?;
    let (all, columns) = spec.matrix();
    if rows.start > rows.end || rows.end > all {
        let Range { start, end } = rows;
        return Err(Error::value(format!("rows {start} to {end} of `{name}`, which has {all} rows")));
    }
    let (count, dtype) = (rows.len(), spec.dtype());
    Ok(match model {
        Model::Packed(packed) if spec.is_float() => {
            let tensor = packed.tensor(name)?;
            tensor.check_sizes()?;
            let mut values = zeros(count * columns)?;
            tensor.rows(rows, &mut values)?;
            Raw::matrix(Dtype::F32, count, columns, Data::Values(values))
        }
        _ => Raw::matrix(dtype, count, columns, Data::Shared(model.rows(name, &rows)?)),
    })
}
