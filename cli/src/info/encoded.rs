//! One encoded tensor.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use codec_api::{Certificate, DecodeCx, EncodedTensor, Need, Registry};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::text;
use crate::text::Align::{Left, Right};

/// The properties of an encoded tensor.
#[derive(Debug, Serialize)]
pub struct Encoded {
    kind: &'static str,
    dtype: String,
    shape: Vec<usize>,
    weights: usize,
    /// The codec as spec text.
    codec: String,
    header: Box<RawValue>,
    certificate: Certificate,
    nmse: f64,
    /// Bytes of the sections.
    bytes: u64,
    /// Bytes of the file beside them.
    header_bytes: u64,
    bits_per_weight: Option<f64>,
    sections: Vec<Section>,
    /// Whether the payload decodes, its checksum included; `None` if decoding needs a base tensor.
    decodes: Option<bool>,
    /// The error of decoding.
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Section {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: usize,
}

/// Decodes as a check and drops the bytes; `None` if decoding needs a base tensor.
fn decode(encoded: &EncodedTensor) -> Option<codec_api::Result<()>> {
    let alone = encoded.codec.needs().base != Need::Requires;
    alone.then(|| encoded.decode_bytes(&DecodeCx::new()).map(drop))
}

impl Encoded {
    /// # Errors
    /// If the file cannot be read, or does not hold one encoded tensor.
    pub fn read(path: &Path, registry: &Registry) -> Result<Self> {
        let file = Bytes::from(std::fs::read(path)?);
        let encoded = EncodedTensor::from_bytes(&file, registry)?;
        let section = |(name, section): (&String, &codec_api::Section)| Section {
            name: name.clone(),
            dtype: section.spec().dtype().to_string(),
            shape: section.spec().shape().to_vec(),
            bytes: section.data().len(),
        };
        let decoded = decode(&encoded);
        let (bytes, weights) = (encoded.payload.bytes(), encoded.spec.elements());
        Ok(Self {
            kind: "encoded tensor",
            dtype: encoded.spec.dtype().to_string(),
            shape: encoded.spec.shape().to_vec(),
            weights,
            codec: registry.spec_of(&*encoded.codec),
            header: RawValue::from_string(codec_api::header(&*encoded.codec)?)?,
            certificate: encoded.certificate,
            nmse: encoded.certificate.nmse(),
            bytes,
            header_bytes: file.len() as u64 - bytes,
            bits_per_weight: (weights > 0).then(|| 8.0 * bytes as f64 / weights as f64),
            sections: encoded.payload.sections().iter().map(section).collect(),
            decodes: decoded.as_ref().map(Result::is_ok),
            reason: decoded.and_then(Result::err).map(|e| e.to_string()),
        })
    }

    /// Whether no error is known.
    pub fn is_sound(&self) -> bool {
        self.decodes != Some(false)
    }

    /// As text; the table fits into `width`.
    pub fn table(&self, width: Option<usize>) -> String {
        let mut out = String::new();
        let error = match self.certificate {
            Certificate { exact: true, .. } => "none: every bit is restored".to_owned(),
            Certificate { max_abs, .. } => format!("max |w − ŵ| {max_abs:.3e}, NMSE {:.3e}", self.nmse),
        };
        let _ = writeln!(out, "tensor: {} {}, {} weights", self.dtype, text::shape(&self.shape), self.weights);
        let _ = writeln!(out, "codec:  {}", text::printable(&self.codec));
        let _ = writeln!(out, "header: {}", text::printable(self.header.get()));
        let _ = writeln!(out, "error:  {error}");
        let row = |section: &Section| {
            [section.name.clone(), section.dtype.clone(), text::shape(&section.shape), section.bytes.to_string()]
        };
        let columns = [("section", Left), ("dtype", Left), ("shape", Left), ("bytes", Right)];
        let _ = writeln!(out, "{}", text::table(&columns, self.sections.iter().map(row), width));
        let bits = self.bits_per_weight.map_or_else(|| "–".to_owned(), |bits| format!("{bits:.3}"));
        let _ = writeln!(out, "{} bytes, {bits} bits/weight, and {} bytes of header", self.bytes, self.header_bytes);
        let _ = match (&self.decodes, &self.reason) {
            (Some(true), _) => write!(out, "it decodes"),
            (Some(false), reason) => {
                write!(out, "it does not decode: {}", text::printable(reason.as_deref().unwrap_or_default()))
            }
            (None, _) => write!(out, "it decodes only with its base tensor"),
        };
        out
    }
}
