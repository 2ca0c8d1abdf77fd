//! One encoded tensor: spec, codec and payload together, in memory and as bytes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use safetensors::tensor::View;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::bound::Bound;
use crate::codec::{Codec, Need};
use crate::config::FormatVersion;
use crate::container::read_safetensors_header;
use crate::context::{DecodeCx, EncodeCx};
use crate::error::{CodecError, FormatError, Result};
use crate::payload::{Payload, Section};
use crate::registry::Registry;
use crate::spec::{MAX_NESTING, check_nesting, header};
use crate::tensor::{Dtype, TensorSpec, TensorView};

/// Key of the JSON text in the `__metadata__` of the file.
const METADATA_KEY: &str = "netweight";

/// An encoded tensor with everything that decoding needs (except a base tensor).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncodedTensor {
    /// Dtype and shape of the source tensor.
    pub spec: TensorSpec,
    /// The codec that encoded it.
    pub codec: Arc<dyn Codec>,
    /// Sections and bound.
    pub payload: Payload,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: FormatVersion<1>,
    dtype: Dtype,
    shape: Vec<usize>,
    codec: Box<RawValue>,
    bound: Bound,
}

impl EncodedTensor {
    /// Encodes a tensor after [`Codec::accepts`] has accepted its spec.
    ///
    /// # Errors
    /// The codec's own errors; [`CodecError::Missing`] if the codec requires a base tensor or
    /// calibration that `cx` does not have.
    #[tracing::instrument(level = "debug", skip_all, fields(codec = codec.typetag_name(), tensor = %tensor.spec()))]
    pub fn encode(codec: Arc<dyn Codec>, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Self> {
        let spec = tensor.spec().clone();
        codec.accepts(&spec)?;
        if codec.needs().base == Need::Requires && cx.base.is_none() {
            return Err(CodecError::Missing("base tensor: this codec encodes relative to one".to_owned()));
        }
        if codec.needs().calibration == Need::Requires && cx.calibration.is_none() {
            return Err(CodecError::Missing("calibration: this codec weighs its errors by it".to_owned()));
        }
        let payload = codec.encode(tensor, cx)?;
        Ok(Self { spec, codec, payload })
    }

    /// Decodes to f32, row-major.
    ///
    /// # Errors
    /// The codec's own errors. [`CodecError::Corrupt`], before any allocation, if the payload size
    /// is outside what the codec's cost allows for the spec.
    #[tracing::instrument(level = "debug", skip_all, fields(codec = self.codec.typetag_name(), tensor = %self.spec))]
    pub fn decode(&self, cx: &DecodeCx<'_>) -> Result<Vec<f32>> {
        self.codec.accepts(&self.spec)?;
        self.check_size(cx.level)?;
        let mut out = vec![0.0; self.spec.elements()];
        self.codec.decode(&self.spec, self.payload.view(), cx, &mut out)?;
        Ok(out)
    }

    /// Decodes to the bytes of the stored dtype.
    ///
    /// # Errors
    /// As [`Self::decode`]; [`CodecError::Unsupported`] if the codec is not lossless.
    pub fn decode_bytes(&self, cx: &DecodeCx<'_>) -> Result<Vec<u8>> {
        let codec = self.codec.require_lossless()?;
        self.codec.accepts(&self.spec)?;
        self.check_size(None)?;
        let mut out = vec![0; self.spec.byte_len()];
        codec.decode_bytes(&self.spec, self.payload.view(), cx, &mut out)?;
        Ok(out)
    }

    /// Checks the payload size against the size that the codec states for the spec. With a `level`,
    /// only the sections of levels `0..=level` count.
    fn check_size(&self, level: Option<usize>) -> Result<()> {
        let levels = level.and(self.codec.as_progressive()).map(|progressive| progressive.levels(&self.spec));
        let (bytes, least, most) = if let (Some(level), Some(levels)) = (level, levels) {
            let (mut bytes, mut least, mut most) = (0, 0u64, 0u64);
            for part in levels.iter().take(level.saturating_add(1)) {
                for name in &part.sections {
                    bytes += self.payload.view().section(name)?.data().len() as u64;
                }
                least = least.saturating_add(*part.bytes.start());
                most = most.saturating_add(*part.bytes.end());
            }
            (bytes, least, most)
        } else {
            let allowed = self.codec.cost(&self.spec).bytes;
            (self.payload.bytes(), *allowed.start(), *allowed.end())
        };
        if least <= bytes && bytes <= most {
            return Ok(());
        }
        let reason = format!("{bytes} bytes in total; expected {least} to {most} for a {} tensor", self.spec);
        Err(CodecError::corrupt("*", reason))
    }

    /// Serialises as a safetensors file: the sections are its tensors, everything else is JSON in
    /// `__metadata__`.
    ///
    /// # Errors
    /// [`FormatError`] if the header does not serialise or exceeds the limits of the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let metadata = |e: serde_json::Error| FormatError::Metadata(e.to_string());
        let meta = Meta {
            version: FormatVersion,
            dtype: self.spec.dtype(),
            shape: self.spec.shape().to_vec(),
            codec: RawValue::from_string(header(&*self.codec)?).map_err(metadata)?,
            bound: self.payload.bound(),
        };
        check_bound(meta.bound)?;
        let text = serde_json::to_string(&meta).map_err(metadata)?;
        safetensors::serialize(self.payload.sections(), Some(HashMap::from([(METADATA_KEY.to_owned(), text)])))
            .map_err(|e| FormatError::Container(e.to_string()))
    }

    /// Reads a file that [`Self::to_bytes`] wrote. The sections are slices of `bytes`; nothing is
    /// copied.
    ///
    /// # Errors
    /// [`FormatError`] for any other bytes; never a panic.
    pub fn from_bytes(bytes: &Bytes, registry: &Registry) -> Result<Self, FormatError> {
        let (file, start) = read_safetensors_header(bytes)?;
        let text = file.metadata().as_ref().and_then(|m| m.get(METADATA_KEY));
        let text = text.ok_or_else(|| FormatError::Metadata("not found".to_owned()))?;
        // The header of the codec is nested one level inside the metadata object.
        check_nesting(text, MAX_NESTING + 1)?;
        let meta: Meta = serde_json::from_str(text).map_err(|e| FormatError::Metadata(e.to_string()))?;
        check_bound(meta.bound)?;
        let codec = registry.parse_header(meta.codec.get())?;
        let mut payload = Payload::new(meta.bound);
        for (name, info) in file.tensors() {
            let (begin, end) = info.data_offsets;
            let data = bytes.slice(start + begin..start + end);
            payload = payload.with(&name, Section::new(info.dtype, info.shape.clone(), data)?);
        }
        Ok(Self { spec: TensorSpec::new(meta.dtype, meta.shape)?, codec, payload })
    }
}

/// JSON cannot hold an infinity, and a negative bound is meaningless.
fn check_bound(bound: Bound) -> Result<(), FormatError> {
    if bound.value().is_none_or(|value| value.is_finite() && value >= 0.0) {
        return Ok(());
    }
    Err(FormatError::Metadata(format!("the bound `{bound}` is not a finite, non-negative number")))
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
