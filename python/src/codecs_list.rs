//! The codecs of the package.

use harness::listing;
use pyo3::prelude::*;

use crate::error::Result;
use crate::guest::registry;

/// JSON: a list of codecs with their presets.
#[pyfunction]
pub fn list_codecs() -> Result<String> {
    let registry = registry()?;
    Ok(serde_json::to_string(&listing::codecs(&registry)?)?)
}
