//! Codecs written in Python, and the registry with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codec_api::{
    Chunking, Codec, CodecEntry, CodecError, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Payload, PayloadView,
    Preset, Registry, Section, TensorSpec, TensorView,
};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::raw;

/// The id of all codecs written in Python.
const ID: &str = "python";

/// The registered codecs by name.
static GUESTS: Mutex<BTreeMap<&'static str, Py<PyAny>>> = Mutex::new(BTreeMap::new());

/// The codecs that are linked and registered, made when it is asked for.
static REGISTRY: Mutex<Option<Arc<Registry>>> = Mutex::new(None);

fn guests() -> MutexGuard<'static, BTreeMap<&'static str, Py<PyAny>>> {
    GUESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All codecs.
pub fn registry() -> Result<Arc<Registry>> {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(registry) = &*registry {
        return Ok(Arc::clone(registry));
    }
    let origin = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let entry = CodecEntry::new(ID, "codecs that this program has registered in Python", origin, presets);
    let linked = Registry::linked()?;
    let own = (!guests().is_empty()).then(|| entry.experimental());
    let made = Arc::new(Registry::from_entries(linked.entries().copied().chain(own))?);
    *registry = Some(Arc::clone(&made));
    Ok(made)
}

fn presets() -> Vec<Preset> {
    let preset = |name: &&'static str| Preset::new(name, Guest { version: FormatVersion, name: (*name).to_owned() });
    guests().keys().map(preset).collect()
}

/// Registers a codec under a name, in place of an older one of that name; returns its spec.
#[pyfunction]
pub fn register_codec(name: &str, codec: Py<PyAny>) -> Result<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        let rule = "a name is a lower-case letter, then lower-case letters, digits, `-` and `_`";
        return Err(Error::value(format!("`{name}`: {rule}")));
    }
    let mut guests = guests();
    let known = guests.keys().copied().find(|known| *known == name);
    // Presets have names of the program; there are as many as a program registers.
    let key = known.unwrap_or_else(|| Box::leak(name.to_owned().into_boxed_str()));
    let older = guests.insert(key, codec);
    drop(guests);
    drop(older);
    *REGISTRY.lock().unwrap_or_else(PoisonError::into_inner) = None;
    Ok(format!("{ID}:name={name}"))
}

/// A codec written in Python, by its name. The object has `cost`, `encode` and `decode` as
/// `netweight/_codec.py` passes them on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Guest {
    #[serde(default)]
    version: FormatVersion<1>,
    name: String,
}

/// Name, dtype, shape and bytes of a section.
type Part<'py> = (String, String, Vec<usize>, PyReadonlyArray1<'py, u8>);

fn wrong(error: impl Into<PyErr>) -> CodecError {
    CodecError::codec(error.into())
}

impl Guest {
    /// Calls the object.
    fn with<R>(
        &self,
        call: impl for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>) -> codec_api::Result<R>,
    ) -> codec_api::Result<R> {
        Python::attach(|py| {
            let codec = guests().get(&*self.name).map(|codec| codec.clone_ref(py));
            let missing = || {
                let name = &self.name;
                CodecError::Unsupported(format!(
                    "this program has no Python codec `{name}`; `netweight.register_codec` registers it"
                ))
            };
            call(py, codec.ok_or_else(missing)?.bind(py))
        })
    }

    /// Least and most bytes.
    fn bytes(&self, spec: &TensorSpec) -> codec_api::Result<(u64, u64)> {
        self.with(|_, codec| {
            let cost = codec.call_method1("cost", (spec.shape().to_vec(),)).map_err(wrong)?;
            cost.extract().map_err(wrong)
        })
    }
}

#[typetag::serde(name = "python")]
impl Codec for Guest {
    fn accepts(&self, spec: &TensorSpec) -> codec_api::Result<()> {
        spec.require_float()?;
        self.bytes(spec).map(drop)
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        Chunking::Whole
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        // `accepts` has reported what is wrong.
        let (least, most) = self.bytes(spec).unwrap_or((0, u64::MAX));
        CostEstimate::between(least, most)
    }

    fn encode(&self, tensor: TensorView<'_>, _: &EncodeCx<'_>) -> codec_api::Result<Payload> {
        let (values, shape) = (tensor.to_finite_f32()?, tensor.spec().shape().to_vec());
        self.with(|py, codec| {
            let weights = PyArray1::from_slice(py, &values);
            let parts = codec.call_method1("encode", (weights, shape)).map_err(wrong)?;
            let mut payload = Payload::new();
            for (name, dtype, shape, bytes) in parts.extract::<Vec<Part<'_>>>().map_err(wrong)? {
                let bytes = bytes.as_slice().map_err(wrong)?.to_vec();
                let section = Section::new(raw::parse(&dtype).map_err(wrong)?, shape, bytes)?;
                payload = payload.with(&name, section)?;
            }
            Ok(payload)
        })
    }

    fn decode(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        _: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> codec_api::Result<()> {
        self.with(|py, codec| {
            let part = |(name, section): (&str, &Section)| {
                let spec = section.spec();
                let bytes = PyArray1::from_slice(py, section.data());
                (name.to_owned(), spec.dtype().to_string(), spec.shape().to_vec(), bytes)
            };
            let parts: Vec<_> = payload.sections().map(part).collect();
            let decoded = codec.call_method1("decode", (parts, spec.shape().to_vec())).map_err(wrong)?;
            let decoded: PyReadonlyArray1<'_, f32> = decoded.extract().map_err(wrong)?;
            let values = decoded.as_slice().map_err(wrong)?;
            spec.check_output(values.len())?;
            out.copy_from_slice(values);
            Ok(())
        })
    }
}
