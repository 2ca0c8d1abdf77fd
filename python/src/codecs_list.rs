//! The codecs of the package.

use codec_api::{Codec, Dtype, Registry, TensorSpec};
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::guest::registry;

/// Shape of the tensor for the nominal rate, as in `netweight list`.
const NOMINAL: [usize; 2] = [1024, 1024];

/// JSON: a list of codecs with their presets.
#[pyfunction]
pub fn list_codecs() -> Result<String> {
    list(&*registry()?)
}

fn list(registry: &Registry) -> Result<String> {
    let mut all = Vec::new();
    for entry in registry.entries() {
        let nominal = TensorSpec::new(entry.only.first().copied().unwrap_or(Dtype::F32), NOMINAL)?;
        let presets = registry.presets_of(entry.id).iter().map(|(name, codec)| {
            json!({"name": name, "codec": registry.spec_of(&**codec), "bits_per_weight": rate(&**codec, &nominal)})
        });
        all.push(json!({
            "id": entry.id,
            "summary": entry.summary,
            "experimental": entry.experimental,
            "presets": presets.collect::<Vec<_>>(),
        }));
    }
    serde_json::to_string(&Value::from(all)).map_err(Error::from)
}

/// Least and most bits per weight.
fn rate(codec: &dyn Codec, spec: &TensorSpec) -> Option<[f64; 2]> {
    codec.accepts(spec).ok()?;
    let bytes = codec.cost(spec).bytes;
    Some([*bytes.start(), *bytes.end()].map(|bytes| 8.0 * bytes as f64 / spec.elements() as f64))
}
