//! What is in a model, in the keys of `netweight info --json`.

use std::path::{Path, PathBuf};

use checkpoint::contents::{ComputedContents, DenseContents, PackedContents};
use checkpoint::{Checkpoint, Model, Packed};
use codec_api::Registry;
use pyo3::prelude::*;

use crate::error::Result;
use crate::guest::registry;
use crate::work;

/// JSON: an object with the tensors and the totals of a model.
#[pyfunction]
pub fn info(py: Python<'_>, path: PathBuf, bases: Vec<PathBuf>) -> Result<String> {
    let registry = registry()?;
    work::apart(py, None, move |_| read(&path, &bases, &registry))
}

fn read(path: &Path, bases: &[PathBuf], registry: &Registry) -> Result<String> {
    let packed = |packed: Packed| -> Result<String> {
        let packed = packed.with_bases(bases, registry)?;
        Ok(serde_json::to_string(&PackedContents::read(&packed, registry)?)?)
    };
    let model = match Checkpoint::open(path) {
        Ok(model) if model.is_packed() => return packed(Packed::open(path, registry)?),
        Ok(model) => model,
        // A packed file that was cut off may hold quality levels.
        Err(error) => return Packed::open(path, registry).map_or(Err(error.into()), packed),
    };
    match Model::open(path, bases, registry)? {
        Model::Computed(computed) => Ok(serde_json::to_string(&ComputedContents::read(&computed)?)?),
        _ => Ok(serde_json::to_string(&DenseContents::read(&model)?)?),
    }
}
