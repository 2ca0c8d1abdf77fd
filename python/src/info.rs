//! What is in a model, in the keys of `netweight info --json`.

use std::path::{Path, PathBuf};

use checkpoint::{Checkpoint, Model, Packed, PackedTensor};
use codec_api::{Registry, TensorSpec};
use pyo3::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::guest::registry;
use crate::work;

/// JSON: an object with the tensors and the totals of a model.
#[pyfunction]
pub fn info(py: Python<'_>, path: PathBuf, bases: Vec<PathBuf>) -> Result<String> {
    let registry = registry()?;
    work::apart(py, move |_| Ok(serde_json::to_string(&read(&path, &bases, &registry)?)?))
}

fn read(path: &Path, bases: &[PathBuf], registry: &Registry) -> Result<Value> {
    let model = match Checkpoint::open(path) {
        Ok(model) if model.is_packed() => return packed(&Packed::open(path, registry)?, registry),
        Ok(model) if model.is_computed() => return computed(&Model::open(path, bases, registry)?),
        Ok(model) => model,
        // A packed file that was cut off may hold quality levels.
        Err(error) => match Packed::open(path, registry) {
            Ok(found) => return packed(&found, registry),
            Err(_) => return Err(error.into()),
        },
    };
    let specs = model.names().map(|name| Ok((name, model.spec(name)?))).collect::<Result<Vec<_>>>()?;
    let mut value = totals("model", &specs);
    value["files"] = json!(model.files());
    value["metadata"] = json!(model.metadata());
    value["notes"] = json!(model.notes());
    Ok(value)
}

fn computed(model: &Model) -> Result<Value> {
    let names = model.names();
    let specs = names.into_iter().map(|name| Ok((name, model.spec(name)?))).collect::<Result<Vec<_>>>()?;
    let mut value = totals("computed model", &specs);
    value["files"] = json!(model.files());
    Ok(value)
}

fn totals(kind: &str, specs: &[(&str, &TensorSpec)]) -> Value {
    let weights: u64 = specs.iter().map(|(_, spec)| spec.elements() as u64).sum();
    let bytes: u64 = specs.iter().map(|(_, spec)| spec.byte_len() as u64).sum();
    let tensors = specs.iter().map(|(name, spec)| dense(name, spec)).collect::<Vec<_>>();
    json!({"kind": kind, "weights": weights, "bytes": bytes, "tensors": tensors})
}

fn dense(name: &str, spec: &TensorSpec) -> Value {
    json!({"name": name, "dtype": spec.dtype().to_string(), "shape": spec.shape(), "bytes": spec.byte_len()})
}

fn per_weight(bytes: u64, weights: u64) -> Option<f64> {
    (weights > 0).then(|| 8.0 * bytes as f64 / weights as f64)
}

fn packed(packed: &Packed, registry: &Registry) -> Result<Value> {
    let recipe = RawValue::from_string(packed.recipe().to_owned()).map_err(Error::from)?;
    let weights: u64 = packed.tensors().map(|tensor| tensor.spec().elements() as u64).sum();
    let dense: u64 = packed.tensors().map(|tensor| tensor.spec().byte_len() as u64).sum();
    let bytes: u64 = packed.tensors().map(|tensor| tensor.bytes()).sum();
    let levels = packed.levels().iter().map(|level| json!({"file_bytes": level.file_bytes, "whole": level.whole}));
    Ok(json!({
        "kind": "packed model",
        "file": packed.path(),
        "program": packed.program(),
        "recipe": recipe,
        "source_files": packed.source_files().collect::<Vec<_>>(),
        "base": packed.base_name(),
        "weights": weights,
        "dense_bytes": dense,
        "bytes": bytes,
        "file_bytes": packed.file_bytes(),
        "bits_per_weight": per_weight(bytes, weights),
        "levels": levels.collect::<Vec<_>>(),
        "tensors": packed.tensors().map(|tensor| entry(&tensor, registry)).collect::<Vec<_>>(),
    }))
}

fn entry(tensor: &PackedTensor<'_>, registry: &Registry) -> Value {
    let mut codecs: Vec<String> = Vec::new();
    for chunk in tensor.chunks() {
        let codec = registry.spec_of(chunk.codec());
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    let (certificate, bytes) = (tensor.certificate(), tensor.bytes());
    let mut value = dense(tensor.name(), tensor.spec());
    value["dense_bytes"] = value["bytes"].take();
    value["bytes"] = json!(bytes);
    value["codec"] = json!(codecs.join(" and "));
    value["bits_per_weight"] = json!(per_weight(bytes, tensor.spec().elements() as u64));
    value["exact"] = json!(certificate.exact);
    value["relative_error"] = json!(certificate.rel_frobenius());
    value["max_abs_error"] = json!(certificate.max_abs);
    value["chunks"] = json!(tensor.chunks().count());
    value["same_as"] = json!(tensor.same_as());
    value["base"] = json!(tensor.base().map(|(name, _)| name));
    value["refused"] = json!(tensor.chunks().find_map(|chunk| chunk.refused()));
    value
}
