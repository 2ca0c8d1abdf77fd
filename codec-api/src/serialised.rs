//! The serialised form of one encoded tensor: a safetensors file.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use safetensors::tensor::{TensorInfo, View};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::certificate::Certificate;
use crate::config::FormatVersion;
use crate::container::read_safetensors_header;
use crate::encoded::{EncodedTensor, check_certificate};
use crate::error::FormatError;
use crate::payload::{Payload, Section};
use crate::registry::Registry;
use crate::spec::{MAX_NESTING, check_nesting};
use crate::tensor::{Dtype, TensorSpec};
use crate::version::{Upgrade, VERSION, upgrade};

/// Key of the JSON text in the `__metadata__` of the file.
const METADATA_KEY: &str = "netweight";

/// The upgrade steps from each older version of [`Meta`] to the next version.
const META_UPGRADES: &[Upgrade] = &[];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: FormatVersion<1>,
    dtype: Dtype,
    shape: Vec<usize>,
    codec: Value,
    certificate: Certificate,
}

impl EncodedTensor {
    /// Serialises as a safetensors file: the sections are its tensors, everything else is JSON in
    /// `__metadata__`.
    ///
    /// # Errors
    /// [`FormatError`] if the header does not serialise or exceeds the limits of the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        check_certificate(&self.certificate)?;
        let metadata = |e: serde_json::Error| FormatError::Metadata(e.to_string());
        let meta = Meta {
            version: FormatVersion,
            dtype: self.spec.dtype(),
            shape: self.spec.shape().to_vec(),
            codec: serde_json::to_value(&*self.codec).map_err(metadata)?,
            certificate: self.certificate,
        };
        let text = serde_json::to_string(&meta).map_err(metadata)?;
        safetensors::serialize(self.payload.sections(), Some(HashMap::from([(METADATA_KEY.to_owned(), text)])))
            .map_err(|e| FormatError::Container(e.to_string()))
    }

    /// Reads a file that [`Self::to_bytes`] wrote, in this or an older version. The sections are
    /// slices of `bytes`; nothing is copied.
    ///
    /// # Errors
    /// [`FormatError`] for any other bytes; never a panic.
    pub fn from_bytes(bytes: &Bytes, registry: &Registry) -> Result<Self, FormatError> {
        let (file, start) = read_safetensors_header(bytes)?;
        let text = file.metadata().as_ref().and_then(|m| m.get(METADATA_KEY));
        let text = text.ok_or_else(|| FormatError::Metadata("not found".to_owned()))?;
        // The header of the codec is nested one level inside the metadata object.
        check_nesting(text, MAX_NESTING + 1)?;
        let meta = read_meta(text)?;
        let codec = registry.read_header(meta.codec)?;
        let section = |info: &TensorInfo| {
            let (begin, end) = info.data_offsets;
            Section::new(info.dtype, info.shape.clone(), bytes.slice(start + begin..start + end))
        };
        let sections = file.tensors().into_iter().map(|(name, info)| Ok((name, section(info)?)));
        let payload = Payload::from_sections(sections.collect::<Result<Vec<_>, FormatError>>()?)?;
        let spec = TensorSpec::new(meta.dtype, meta.shape)?;
        Ok(Self::from_parts(spec, codec, payload, meta.certificate)?)
    }
}

/// Reads metadata of the newest version or of an older one. The newest version is read directly,
/// because reading it as an object would keep the last of two equal keys.
fn read_meta(text: &str) -> Result<Meta, FormatError> {
    let metadata = |e: serde_json::Error| FormatError::Metadata(e.to_string());
    let mut object: Map<String, Value> = serde_json::from_str(text).map_err(metadata)?;
    let version = object.get(VERSION).and_then(Value::as_u64).unwrap_or(0);
    if version == 0 || version > META_UPGRADES.len() as u64 {
        return serde_json::from_str(text).map_err(metadata);
    }
    upgrade(&mut object, META_UPGRADES).map_err(FormatError::Metadata)?;
    serde_json::from_value(Value::Object(object)).map_err(metadata)
}

impl View for &Section {
    fn dtype(&self) -> Dtype {
        self.spec().dtype()
    }

    fn shape(&self) -> &[usize] {
        self.spec().shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(Section::data(self))
    }

    fn data_len(&self) -> usize {
        Section::data(self).len()
    }
}
