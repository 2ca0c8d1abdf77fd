//! Runs units: encodes chunks.

use std::sync::Arc;

use bytes::Bytes;
use codec_api::{
    BaseTensor, Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, Payload, Progress, Registry, Statistics,
    TensorView, survey,
};
use rayon::prelude::*;

use super::base::PlannedBase;
use super::parts::Done;
use super::{Plan, PlannedTensor};
use crate::base::BaseModel;
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::packed::{BaseTensorRecord, ChunkRecord, Hash, LevelRecord, crc32c, place};
use crate::recipe::exact_codec;

/// What the chunks of a tensor share: the statistics of the tensor, or why its codec refused it.
pub(super) type Shared = Result<Option<Statistics>, String>;

impl Plan {
    /// Runs all units on rayon's current pool. `progress` gets the number of encoded weights.
    ///
    /// # Errors
    /// As [`Self::run_unit`], the first one that is noticed.
    pub fn run(&self, registry: &Registry, progress: &dyn Progress) -> Result<(), Error> {
        (0..self.units()).into_par_iter().try_for_each(|unit| self.run_unit(unit, registry, progress))
    }

    /// Runs a unit: encodes its chunks and writes its part. A whole part of this plan is kept.
    ///
    /// A chunk that the codec refuses is stored exactly, with the reason.
    ///
    /// # Errors
    /// [`Error::Changed`] if the source is not as it was when it was planned; [`Error::Chunk`] if a
    /// codec fails; [`Error::Write`]; [`Error::Plan`] if there is no such unit.
    pub fn run_unit(&self, unit: usize, registry: &Registry, progress: &dyn Progress) -> Result<(), Error> {
        let Some(pieces) = self.units.get(unit) else {
            return Err(self.wrong(format!("it has {} units, so no unit {unit}", self.units())));
        };
        if let Some(part) = self.read_part(unit, self.hash()?, true) {
            let weights = |done: &Done| {
                let tensor = &self.tensors[done.tensor];
                (tensor.rows(done.chunk).len() * tensor.spec.matrix().1) as u64
            };
            progress.tick(part.chunks.iter().map(weights).sum());
            return Ok(());
        }
        let codecs = self.make_codecs(registry)?;
        let based = pieces.iter().any(|[tensor, _]| self.tensors[*tensor].base.is_some());
        let base = self.base.as_ref().filter(|_| based);
        let base = base.map(|base| base.open(&self.source, registry)).transpose()?;
        let mut work = Work { plan: self, codecs, base, open: None, shared: None, progress };
        let chunks = pieces.iter().map(|[tensor, chunk]| work.encode(*tensor, *chunk)).collect::<Result<_, _>>()?;
        // A source that is written while it is read has another time afterwards.
        if let Some((file, _)) = work.open {
            self.source.check(file)?;
        }
        self.base.as_ref().map_or(Ok(()), PlannedBase::check)?;
        self.write_part(unit, chunks)
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
    base: Option<BaseModel>,
    /// The source file of the last chunk, and its number. Its map is dropped with the unit, so that
    /// the pages do not fill the memory.
    open: Option<(usize, Checkpoint)>,
    /// The tensor of the last chunk, and what its chunks share.
    shared: Option<(usize, Shared)>,
    progress: &'a dyn Progress,
}

impl Work<'_> {
    fn encode(&mut self, number: usize, chunk: usize) -> Result<(Done, Payload), Error> {
        let (plan, tensor) = (self.plan, &self.plan.tensors[number]);
        if self.open.as_ref().is_none_or(|(file, _)| *file != tensor.file) {
            if let Some((file, _)) = &self.open {
                plan.source.check(*file)?;
            }
            self.open = Some((tensor.file, plan.source.open(tensor.file)?));
        }
        let Some((_, model)) = &self.open else { return Err(plan.wrong("no source is open")) };
        let view = model.tensor(&tensor.name)?;
        if *view.spec() != tensor.spec {
            return Err(plan.wrong(format!("tensor `{}` is {} in the source", tensor.name, view.spec())));
        }
        let cx = EncodeCx::for_tensor(plan.seed, &tensor.name).with_progress(self.progress);
        let record = tensor.base.and_then(|number| plan.base.as_ref()?.tensors.get(number));
        let base = self.base.as_ref().zip(record);
        let encoder = Encoder { tensor, codecs: &self.codecs, base, view, cx, path: &model.files()[0] };
        if self.shared.as_ref().is_none_or(|(known, _)| *known != number) {
            self.shared = Some((number, encoder.survey()?));
        }
        let shared = self.shared.as_ref().map_or(&Ok(None), |(_, shared)| shared);
        let (record, payload) = encoder.encode(chunk, shared)?;
        Ok((Done { tensor: number, chunk, record }, payload))
    }
}

/// Encodes chunks of one tensor.
pub(super) struct Encoder<'a> {
    pub(super) tensor: &'a PlannedTensor,
    pub(super) codecs: &'a [Arc<dyn Codec>],
    pub(super) base: Option<(&'a BaseModel, &'a BaseTensorRecord)>,
    pub(super) view: TensorView<'a>,
    pub(super) cx: EncodeCx<'a>,
    pub(super) path: &'a std::path::Path,
}

impl Encoder<'_> {
    fn failed(&self, chunk: usize, error: CodecError) -> Error {
        let part = place(&self.tensor.name, &self.tensor.rows(chunk));
        Error::Chunk { path: self.path.to_owned(), part, error: error.into() }
    }

    /// The statistics of the tensor, if it has several chunks and its codec needs them.
    pub(super) fn survey(&self) -> Result<Shared, Error> {
        let (chunks, codec) = (self.tensor.chunks(), &self.codecs[self.tensor.codec]);
        let Some(surveyed) = codec.as_surveyed().filter(|_| chunks > 1) else { return Ok(Ok(None)) };
        let observe = |found: Option<&Statistics>, chunk: usize| {
            let base = self.base(chunk)?;
            surveyed.observe(self.chunk(chunk)?, &self.context(chunk, found, base.as_ref())?)
        };
        match survey(surveyed, |found| (0..chunks).map(|chunk| observe(found, chunk)).collect()) {
            Ok(statistics) => Ok(Ok(Some(statistics))),
            Err(error) if refuses(&error) => Ok(Err(error.to_string())),
            Err(error) => Err(self.failed(0, error)),
        }
    }

    /// Encodes a chunk with the codec of the tensor, or exactly if that one refuses it.
    pub(super) fn encode(&self, chunk: usize, shared: &Shared) -> Result<(ChunkRecord, Payload), Error> {
        let failed = |error| self.failed(chunk, error);
        let base = self.base(chunk).map_err(failed)?;
        let statistics = shared.as_ref().ok().and_then(Option::as_ref);
        let cx = self.context(chunk, statistics, base.as_ref()).map_err(failed)?;
        let encode = |codec: usize| EncodedTensor::encode(Arc::clone(&self.codecs[codec]), self.chunk(chunk)?, &cx);
        let (planned, exact) = (self.tensor.codec, exact_codec(self.tensor.base.is_some()));
        let exactly = |reason: String| Ok((exact, encode(exact).map_err(failed)?, Some(reason)));
        let (codec, encoded, refused) = match shared {
            Ok(_) => match encode(planned) {
                Ok(encoded) => (planned, encoded, self.tensor.refused.clone()),
                Err(error) if planned != exact && refuses(&error) => exactly(error.to_string())?,
                Err(error) => return Err(failed(error)),
            },
            Err(reason) => exactly(reason.clone())?,
        };
        let rows = self.tensor.rows(chunk);
        let blake3 = if encoded.certificate.exact {
            Hash::of(self.chunk(chunk).map_err(failed)?.bytes())
        } else {
            Hash::of(&encoded.decode_bytes(&cx.decoding()).map_err(failed)?)
        };
        let sections = encoded.payload.sections().iter();
        let sections = sections.map(|(name, section)| (name.clone(), crc32c(section.data()))).collect();
        let levels = self.levels(chunk, &encoded, &cx.decoding()).map_err(failed)?;
        let (rows, certificate) = ([rows.start, rows.end], encoded.certificate);
        Ok((ChunkRecord { rows, codec, certificate, blake3, levels, sections, refused }, encoded.payload))
    }

    /// What a decoder returns at each quality level but the last.
    fn levels(&self, chunk: usize, encoded: &EncodedTensor, cx: &DecodeCx<'_>) -> Result<Vec<LevelRecord>, CodecError> {
        let source = self.chunk(chunk)?;
        let mut decoded = Vec::new();
        let record = |level: usize| {
            decoded.resize(source.spec().byte_len(), 0);
            encoded.decode_level_stored(level, cx, &mut decoded)?;
            Ok(LevelRecord { certificate: encoded.certify_level(level, &source, cx)?, blake3: Hash::of(&decoded) })
        };
        (0..encoded.codec.levels(&encoded.spec).len().saturating_sub(1)).map(record).collect()
    }

    /// The rows of a chunk.
    fn chunk(&self, chunk: usize) -> Result<TensorView<'_>, CodecError> {
        let rows = self.tensor.rows(chunk);
        self.view.rows(rows.start, rows.end)
    }

    /// The bytes of the same rows of the base.
    fn base(&self, chunk: usize) -> Result<Option<(Hash, Bytes)>, CodecError> {
        let Some((model, record)) = self.base else { return Ok(None) };
        let bytes = model.rows(&record.name, &self.tensor.rows(chunk)).map_err(CodecError::codec)?;
        Ok(Some((record.blake3, bytes)))
    }

    /// The context of a chunk.
    fn context<'c>(
        &self,
        chunk: usize,
        statistics: Option<&'c Statistics>,
        base: Option<&'c (Hash, Bytes)>,
    ) -> Result<EncodeCx<'c>, CodecError>
    where
        Self: 'c,
    {
        let mut cx = self.cx.clone();
        cx.shared = statistics.map(Statistics::shared);
        let cx = cx.for_rows(&self.tensor.spec, self.tensor.rows(chunk))?;
        let Some((hash, bytes)) = base else { return Ok(cx) };
        let view = TensorView::new(self.chunk(chunk)?.spec().clone(), bytes)?;
        Ok(cx.with_base(BaseTensor::with_id(hash.0, view)))
    }
}

/// Whether the codec is not made for the tensor, as opposed to a failure.
fn refuses(error: &CodecError) -> bool {
    error.is_refusal() || matches!(error, CodecError::NonFinite { .. })
}
