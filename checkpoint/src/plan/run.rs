//! Runs units: encodes chunks.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use codec_api::{
    BaseTensor, Certificate, Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, NoProgress, Payload, Progress,
    Registry, Statistics, TensorSpec, TensorView, survey,
};
use rayon::prelude::*;

use super::base::PlannedBase;
use super::parts::Done;
use super::{Plan, PlannedTensor};
use crate::compare::certificate;
use crate::computed::Computed;
use crate::error::Error;
use crate::model::Model;
use crate::packed::{BaseTensorRecord, ChunkRecord, Hash, LevelRecord, crc32c, place};
use crate::recipe::exact_codec;

/// What a run of a unit has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It has written the part.
    Encoded,
    /// The part was there.
    Kept,
}

/// Encodes tensors in a way of its own, for example with errors fed forward, in the format of the
/// codec that the plan gives them.
pub trait TensorEncoder: Sync {
    /// The payload of a whole tensor; `None` if the codec itself is to encode it.
    fn encode(
        &self,
        name: &str,
        codec: &dyn Codec,
        tensor: &TensorView<'_>,
        cx: &EncodeCx<'_>,
    ) -> Option<codec_api::Result<Payload>>;
}

/// Rows that were encoded on trial.
pub(super) struct TriedRows {
    pub(super) record: ChunkRecord,
    pub(super) payload: Payload,
    /// Hash of the base tensor, and the bytes of its rows.
    pub(super) base: Option<(Hash, Bytes)>,
}

/// What the chunks of a tensor share: the statistics of the tensor, or why its codec refused it.
pub(super) type Shared = Result<Option<Statistics>, String>;

impl Plan {
    /// Runs all units on rayon's current pool. `progress` gets the number of encoded weights.
    ///
    /// # Errors
    /// As [`Self::run_unit`], the first one that is noticed.
    pub fn run(&self, registry: &Registry, progress: &dyn Progress) -> Result<(), Error> {
        self.run_all(None, registry, progress)
    }

    /// As [`Self::run`], with an encoder for some tensors. Parts that are there are kept, so the
    /// recipe must tell encoders with other results apart ([`Recipe::calibration`]).
    ///
    /// # Errors
    /// As [`Self::run`], and those of the encoder.
    ///
    /// [`Recipe::calibration`]: crate::Recipe::calibration
    pub fn run_with(
        &self,
        encoder: &dyn TensorEncoder,
        registry: &Registry,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        self.run_all(Some(encoder), registry, progress)
    }

    fn run_all(
        &self,
        by: Option<&dyn TensorEncoder>,
        registry: &Registry,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        // A thread without work takes single units of the others.
        let units = (0..self.units()).into_par_iter().with_max_len(1);
        units.try_for_each(|unit| self.run_one(unit, by, registry, progress).map(|_| ()))
    }

    /// Runs a unit: encodes its chunks and writes its part. A whole part of this plan is kept.
    ///
    /// A chunk that the codec refuses is stored exactly, with the reason. Every certificate belongs
    /// to the decoded bytes whose hash is stored: whoever finds that hash again knows the error.
    ///
    /// # Errors
    /// [`Error::Changed`] if the source is not as it was when it was planned; [`Error::Chunk`] if a
    /// codec fails; [`Error::Write`]; [`Error::Plan`] if there is no such unit.
    pub fn run_unit(&self, unit: usize, registry: &Registry, progress: &dyn Progress) -> Result<Ran, Error> {
        self.run_one(unit, None, registry, progress)
    }

    fn run_one(
        &self,
        unit: usize,
        by: Option<&dyn TensorEncoder>,
        registry: &Registry,
        progress: &dyn Progress,
    ) -> Result<Ran, Error> {
        if self.recipe.calibration.is_some() && by.is_none() {
            return Err(self.wrong("it needs its calibration: only `compress --calibration` runs it"));
        }
        let Some(pieces) = self.units.get(unit) else {
            return Err(self.wrong(format!("it has {} units, counted from 0, so no unit {unit}", self.units())));
        };
        if let Some(part) = self.read_part(unit, self.hash()?, true) {
            progress.tick(part.chunks.iter().map(|done| self.tensors[done.tensor].weights(done.chunk)).sum());
            return Ok(Ran::Kept);
        }
        let based = pieces.iter().any(|[tensor, _]| self.tensors[*tensor].base.is_some());
        let mut work = Work::new(self, based, registry, progress)?;
        work.by = by;
        let chunks = pieces.iter().map(|[tensor, chunk]| work.encode(*tensor, *chunk)).collect::<Result<_, _>>()?;
        // A source that is written while it is read has another time afterwards.
        if let Some((file, _)) = work.open {
            self.source.check(file)?;
        }
        self.base.as_ref().map_or(Ok(()), PlannedBase::check)?;
        self.write_part(unit, chunks)?;
        tracing::info!(unit, units = self.units(), "encoded");
        Ok(Ran::Encoded)
    }

    /// What the chunks of a tensor share.
    pub(super) fn survey_tensor(&self, tensor: usize, registry: &Registry) -> Result<Shared, Error> {
        let mut work = Work::new(self, self.tensors[tensor].base.is_some(), registry, &NoProgress)?;
        work.encoder(tensor)?.survey()
    }

    /// Encodes rows of a tensor on trial.
    pub(super) fn try_rows(
        &self,
        tensor: usize,
        rows: &Range<usize>,
        shared: &Shared,
        registry: &Registry,
    ) -> Result<TriedRows, Error> {
        let mut work = Work::new(self, self.tensors[tensor].base.is_some(), registry, &NoProgress)?;
        let encoder = work.encoder(tensor)?;
        let (record, payload) = encoder.encode(rows.clone(), shared)?;
        let base = encoder.base(rows).map_err(|e| encoder.failed(rows, e))?;
        Ok(TriedRows { record, payload, base })
    }

    pub(super) fn make_codecs(&self, registry: &Registry) -> Result<Vec<Arc<dyn Codec>>, Error> {
        let codecs: Result<Vec<_>, _> = self.codecs.iter().map(|header| registry.parse_header(header.get())).collect();
        codecs.map_err(|e| self.wrong(e.to_string()))
    }
}

/// The state of a running unit.
struct Work<'a> {
    plan: &'a Plan,
    codecs: Vec<Arc<dyn Codec>>,
    /// The base, if a tensor of the unit has one.
    base: Option<Model>,
    /// The source file of the last chunk, and its number.
    open: Option<(usize, Arc<Model>)>,
    /// The tensor of the last chunk, and what its chunks share.
    shared: Option<(usize, Shared)>,
    progress: &'a dyn Progress,
    by: Option<&'a dyn TensorEncoder>,
    registry: &'a Registry,
}

impl<'a> Work<'a> {
    /// Opens the base of the plan if `based`.
    fn new(plan: &'a Plan, based: bool, registry: &'a Registry, progress: &'a dyn Progress) -> Result<Self, Error> {
        let base = plan.base.as_ref().filter(|_| based);
        let base = base.map(|base| base.open(&plan.source, registry)).transpose()?;
        let codecs = plan.make_codecs(registry)?;
        Ok(Self { plan, codecs, base, open: None, shared: None, progress, by: None, registry })
    }

    fn encode(&mut self, number: usize, chunk: usize) -> Result<(Done, Payload), Error> {
        let known = self.shared.take().filter(|(known, _)| *known == number);
        let encoder = self.encoder(number)?;
        let shared = match known {
            Some((_, shared)) => shared,
            None => encoder.survey()?,
        };
        let (record, payload) = encoder.encode(encoder.tensor.rows(chunk), &shared)?;
        self.shared = Some((number, shared));
        Ok((Done { tensor: number, chunk, record }, payload))
    }

    /// The encoder of this tensor.
    fn encoder(&mut self, number: usize) -> Result<Encoder<'_>, Error> {
        let (plan, tensor) = (self.plan, &self.plan.tensors[number]);
        if self.open.as_ref().is_none_or(|(file, _)| *file != tensor.file) {
            if let Some((file, _)) = &self.open {
                plan.source.check(*file)?;
            }
            self.open = Some((tensor.file, plan.model(tensor.file, self.registry)?));
        }
        let Some((_, model)) = &self.open else { return Err(plan.wrong("no source is open")) };
        let found = model.spec(&tensor.name)?;
        if *found != tensor.spec {
            return Err(plan.wrong(format!("tensor `{}` is {found} in the source", tensor.name)));
        }
        let values = match &**model {
            Model::Dense(model) => Values::Stored(model.tensor(&tensor.name)?),
            Model::Computed(model) => Values::Computed(model),
            Model::Packed(_) => return Err(plan.wrong("its source is packed")),
        };
        let cx = EncodeCx::for_tensor(plan.seed, &tensor.name).with_progress(self.progress);
        let record = tensor.base.and_then(|number| plan.base.as_ref()?.tensors.get(number));
        let base = self.base.as_ref().zip(record);
        Ok(Encoder { tensor, codecs: &self.codecs, base, values, cx, model, by: self.by })
    }
}

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

    fn failed(&self, rows: &Range<usize>, error: CodecError) -> Error {
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
    fn base(&self, rows: &Range<usize>) -> Result<Option<(Hash, Bytes)>, CodecError> {
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
