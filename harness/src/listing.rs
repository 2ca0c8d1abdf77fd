//! The codecs of a program and their presets. Serialised, these are the keys of
//! `netweight list --json`.

use std::sync::Arc;

use codec_api::{Codec, CodecEntry, Dtype, Registry, Result, TensorSpec};
use serde::Serialize;

/// Shape of the tensor for the nominal rate. Its dtype is F32, or the first dtype of a codec with
/// dtypes of its own.
const NOMINAL: [usize; 2] = [1024, 1024];

/// A codec.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// The crate that registers it.
    #[serde(rename = "crate")]
    pub package: &'static str,
    /// The version of this crate.
    pub version: &'static str,
    /// Whether its format may change.
    pub experimental: bool,
    /// Its presets.
    pub presets: Vec<ListedPreset>,
}

/// A preset of a codec.
#[derive(Debug, Serialize)]
pub struct ListedPreset {
    /// Its name.
    pub name: &'static str,
    /// Its spec with all keys.
    pub codec: String,
    /// Least and most bits per weight of a 1024 × 1024 tensor; `None` if the codec does not support
    /// it.
    pub bits_per_weight: Option<[f64; 2]>,
}

/// All codecs, sorted by id.
///
/// # Errors
/// Those of [`TensorSpec::new`].
pub fn codecs(registry: &Registry) -> Result<Vec<Listed>> {
    registry.entries().map(|entry| listed(entry, registry)).collect()
}

fn listed(entry: &CodecEntry, registry: &Registry) -> Result<Listed> {
    let nominal = TensorSpec::new(entry.only.first().copied().unwrap_or(Dtype::F32), NOMINAL)?;
    let preset = |(name, codec): &(&'static str, Arc<dyn Codec>)| ListedPreset {
        name,
        codec: registry.spec_of(&**codec),
        bits_per_weight: rate(&**codec, &nominal),
    };
    Ok(Listed {
        id: entry.id,
        summary: entry.summary,
        package: entry.origin.0,
        version: entry.origin.1,
        experimental: entry.experimental,
        presets: registry.presets_of(entry.id).iter().map(preset).collect(),
    })
}

fn rate(codec: &dyn Codec, spec: &TensorSpec) -> Option<[f64; 2]> {
    codec.accepts(spec).ok()?;
    let bytes = codec.cost(spec).bytes;
    let bits = |bytes: u64| 8.0 * bytes as f64 / spec.elements() as f64;
    Some([*bytes.start(), *bytes.end()].map(bits))
}
