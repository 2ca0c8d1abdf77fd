//! Encodes the chunks of a tensor.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use codec_api::{
    BaseTensor, Certificate, Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, Payload, Statistics, TensorSpec,
    TensorView, survey,
};

use super::PlannedTensor;
use super::run::{Shared, TensorEncoder};
use crate::compare::certificate;
use crate::computed::Computed;
use crate::error::Error;
use crate::model::Model;
use crate::packed::{BaseTensorRecord, ChunkRecord, Hash, LevelRecord, crc32c, place};
use crate::recipe::exact_codec;

/// The values of a tensor that is encoded.
#[derive(Clone)]
pub(super) enum Values<'a> {
    /// In a file.
    Stored(TensorView<'a>),
    /// Computed, chunk by chunk.
    Computed(&'a Computed),
}

/// Dtype and shape of rows, and their bytes.
type Rows<'a> = (TensorSpec, Cow<'a, [u8]>);

/// Encodes chunks of one tensor.
pub(super) struct Encoder<'a> {
    pub(super) tensor: &'a PlannedTensor,
    pub(super) codecs: &'a [Arc<dyn Codec>],
    pub(super) base: Option<(&'a Model, &'a BaseTensorRecord)>,
    pub(super) values: Values<'a>,
    pub(super) cx: EncodeCx<'a>,
    /// The source file.
    pub(super) model: &'a Model,
    /// What encodes some tensors in place of their codecs.
    pub(super) by: Option<&'a dyn TensorEncoder>,
}

impl<'a> Encoder<'a> {
    /// The bytes of rows.
    fn rows(&self, rows: &Range<usize>) -> Result<Rows<'a>, CodecError> {
        match &self.values {
            Values::Stored(view) => {
                let rows = view.rows(rows.start, rows.end)?;
                Ok((rows.spec().clone(), Cow::Borrowed(rows.bytes())))
            }
            Values::Computed(model) => {
                let bytes = model.rows(&self.tensor.name, rows).map_err(CodecError::codec)?;
                Ok((self.tensor.spec.with_rows(rows.len())?, Cow::Owned(bytes.into())))
            }
        }
    }

    pub(super) fn failed(&self, rows: &Range<usize>, error: CodecError) -> Error {
        failed(self.model, &self.tensor.name, rows, error)
    }

    /// The statistics of the tensor, if it has several chunks and its codec needs them.
    pub(super) fn survey(&self) -> Result<Shared, Error> {
        let (chunks, codec) = (self.tensor.chunks(), &self.codecs[self.tensor.codec]);
        let Some(surveyed) = codec.as_surveyed().filter(|_| chunks > 1) else { return Ok(Ok(None)) };
        let observe = |found: Option<&Statistics>, chunk: usize| {
            let rows = self.tensor.rows(chunk);
            let base = self.base(&rows)?;
            let (spec, bytes) = self.rows(&rows)?;
            let chunk = TensorView::new(spec, &bytes)?;
            let observed = surveyed.observe(chunk, &self.context(&rows, found, base.as_ref())?);
            self.model.release();
            observed
        };
        match survey(surveyed, |found| (0..chunks).map(|chunk| observe(found, chunk)).collect()) {
            Ok(statistics) => Ok(Ok(Some(statistics))),
            Err(error) if refuses(&error) => Ok(Err(error.to_string())),
            Err(error) => Err(self.failed(&self.tensor.rows(0), error)),
        }
    }

    /// Encodes a chunk with the codec of the tensor, or exactly if that one refuses it.
    pub(super) fn encode(&self, rows: Range<usize>, shared: &Shared) -> Result<(ChunkRecord, Payload), Error> {
        let failed = |error| self.failed(&rows, error);
        let base = self.base(&rows).map_err(failed)?;
        let (spec, bytes) = self.rows(&rows).map_err(failed)?;
        let view = TensorView::new(spec, &bytes).map_err(failed)?;
        let statistics = shared.as_ref().ok().and_then(Option::as_ref);
        let cx = self.context(&rows, statistics, base.as_ref()).map_err(failed)?;
        let (planned, exact) = (self.tensor.codec, exact_codec(self.tensor.base.is_some()));
        let encode = |codec: usize| self.try_codec(codec, &view, &cx);
        let exactly = |reason: String| Ok((exact, encode(exact).map_err(failed)?, Some(reason)));
        let (codec, (encoded, blake3), refused) = match shared {
            Ok(_) => match encode(planned) {
                Ok(encoded) => (planned, encoded, self.tensor.refused.clone()),
                Err(error) if planned != exact && refuses(&error) => exactly(error.to_string())?,
                Err(error) => return Err(failed(error)),
            },
            Err(reason) => exactly(reason.clone())?,
        };
        let sections = encoded.payload.sections().iter();
        let sections = sections.map(|(name, section)| (name.clone(), crc32c(section.data()))).collect();
        let levels = Self::levels(&view, &encoded, &cx.decoding()).map_err(failed)?;
        self.model.release();
        let (rows, certificate) = ([rows.start, rows.end], encoded.certificate);
        Ok((ChunkRecord { rows, codec, certificate, blake3, levels, sections, refused }, encoded.payload))
    }

    /// What a decoder returns at each quality level but the last.
    fn levels(
        source: &TensorView<'_>,
        encoded: &EncodedTensor,
        cx: &DecodeCx<'_>,
    ) -> Result<Vec<LevelRecord>, CodecError> {
        let mut decoded = Vec::new();
        let record = |level: usize| {
            decoded.resize(source.spec().byte_len(), 0);
            encoded.decode_level_stored(level, cx, &mut decoded)?;
            Ok(LevelRecord { certificate: certificate(source, &decoded)?, blake3: Hash::of(&decoded) })
        };
        (0..encoded.codec.levels(&encoded.spec).len().saturating_sub(1)).map(record).collect()
    }

    /// Hash of the base tensor, and the bytes of its rows.
    pub(super) fn base(&self, rows: &Range<usize>) -> Result<Option<(Hash, Bytes)>, CodecError> {
        let Some((model, record)) = self.base else { return Ok(None) };
        let bytes = model.rows(&record.name, rows).map_err(CodecError::codec)?;
        Ok(Some((record.blake3, bytes)))
    }

    /// The context of rows.
    fn context<'c>(
        &self,
        rows: &Range<usize>,
        statistics: Option<&'c Statistics>,
        base: Option<&'c (Hash, Bytes)>,
    ) -> Result<EncodeCx<'c>, CodecError>
    where
        Self: 'c,
    {
        let mut cx = self.cx.clone();
        cx.shared = statistics.map(Statistics::shared);
        let cx = cx.for_rows(&self.tensor.spec, rows.clone())?;
        let Some((hash, bytes)) = base else { return Ok(cx) };
        let view = TensorView::new(self.tensor.spec.with_rows(rows.len())?, bytes)?;
        Ok(cx.with_base(BaseTensor::with_id(hash.0, view)))
    }

    /// Measures a payload of the whole tensor that an encoder has made, and hashes the bytes that a
    /// decoder returns. The squared error may be larger than that of zeros: an encoder that feeds
    /// errors forward lets it grow where it does no harm.
    fn taken(
        &self,
        whole: &TensorView<'_>,
        codec: Arc<dyn Codec>,
        payload: Payload,
    ) -> Result<(EncodedTensor, Hash), CodecError> {
        let mut limited = self.cx.decoding();
        limited.max_output = None;
        let mut decoded = vec![0; self.tensor.spec.byte_len()];
        let mut encoded = EncodedTensor::from_parts(self.tensor.spec.clone(), codec, payload, Certificate::EMPTY)?;
        encoded.decode_stored(&limited, &mut decoded)?;
        encoded.certificate = certificate(whole, &decoded)?;
        Ok((encoded, Hash::of(&decoded)))
    }

    /// Encodes rows, measures them, and hashes the bytes that a decoder returns. The rows of an
    /// exact codec are not decoded: whoever decodes them compares the hash, which is that of the
    /// source.
    fn try_codec(
        &self,
        codec: usize,
        view: &TensorView<'_>,
        cx: &EncodeCx<'_>,
    ) -> Result<(EncodedTensor, Hash), CodecError> {
        let planned = codec == self.tensor.codec && *view.spec() == self.tensor.spec;
        let codec = Arc::clone(&self.codecs[codec]);
        let by = self.by.filter(|_| planned);
        if let Some(payload) = by.and_then(|by| by.encode(&self.tensor.name, &*codec, view, cx)) {
            return self.taken(view, codec, payload?);
        }
        let payload = EncodedTensor::encode_payload(&*codec, view.clone(), cx)?;
        // A reader has the same limit.
        let mut limited = cx.decoding();
        limited.max_output = None;
        let mut hasher = blake3::Hasher::new();
        let take = |bytes: &[u8]| {
            hasher.update(bytes);
        };
        let encoded = EncodedTensor::certify_bytes(codec, view, payload, &limited, take)?;
        Ok((encoded, Hash(hasher.finalize().into())))
    }
}

/// The error of rows of a tensor in a source file.
pub(super) fn failed(model: &Model, tensor: &str, rows: &Range<usize>, error: CodecError) -> Error {
    Error::Chunk { path: model.path().to_owned(), part: place(tensor, rows), error: error.into() }
}

/// Whether the codec is not made for the tensor, as opposed to a failure.
fn refuses(error: &CodecError) -> bool {
    error.is_refusal() || matches!(error, CodecError::NonFinite { .. })
}
