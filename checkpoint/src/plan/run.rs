//! Runs units: encodes chunks.

use std::ops::Range;
use std::sync::Arc;

use codec_api::{
    Certificate, Codec, CodecError, EncodeCx, EncodedTensor, NoProgress, Payload, Progress, Registry, Statistics,
    TensorView, survey,
};
use rayon::prelude::*;

use super::parts::Done;
use super::{Plan, PlannedTensor};
use crate::checkpoint::Checkpoint;
use crate::compare::certificate;
use crate::error::Error;
use crate::packed::{ChunkRecord, Hash, crc32c, place};

/// What a run of a unit has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It has written the part.
    Encoded,
    /// The part was there.
    Kept,
}

/// What the chunks of a tensor share: the statistics of the tensor, or why its codec refused it.
type Shared = Result<Option<Statistics>, String>;

impl Plan {
    /// Runs all units on rayon's current pool. `progress` gets the number of encoded weights.
    ///
    /// # Errors
    /// As [`Self::run_unit`], the first one that is noticed.
    pub fn run(&self, registry: &Registry, progress: &dyn Progress) -> Result<(), Error> {
        let units = (0..self.units()).into_par_iter();
        units.try_for_each(|unit| self.run_unit(unit, registry, progress).map(|_| ()))
    }

    /// Runs a unit: encodes its chunks and writes its part. A whole part of this plan is kept.
    ///
    /// A chunk that the codec refuses is stored exactly, with the reason. Every certificate is
    /// measured on the decoded bytes whose hash is stored: who finds that hash again knows the
    /// error.
    ///
    /// # Errors
    /// [`Error::Changed`] if the source is not as it was when it was planned; [`Error::Chunk`] if a
    /// codec fails; [`Error::Write`]; [`Error::Plan`] if there is no such unit.
    pub fn run_unit(&self, unit: usize, registry: &Registry, progress: &dyn Progress) -> Result<Ran, Error> {
        let Some(pieces) = self.units.get(unit) else {
            return Err(self.wrong(format!("it has {} units, counted from 0, so no unit {unit}", self.units())));
        };
        if let Some(part) = self.read_part(unit, self.hash()?, true) {
            let weights = |done: &Done| {
                let tensor = &self.tensors[done.tensor];
                (tensor.rows(done.chunk).len() * tensor.spec.matrix().1) as u64
            };
            progress.tick(part.chunks.iter().map(weights).sum());
            return Ok(Ran::Kept);
        }
        let mut work = Work::new(self, registry, progress)?;
        let chunks = pieces.iter().map(|[tensor, chunk]| work.encode(*tensor, *chunk)).collect::<Result<_, _>>()?;
        // A source that is written while it is read has another time afterwards.
        if let Some((file, _)) = work.open {
            self.source.check(file)?;
        }
        self.write_part(unit, chunks)?;
        tracing::info!(unit, units = self.units(), "encoded");
        Ok(Ran::Encoded)
    }

    /// Encodes rows of a tensor on trial.
    pub(super) fn try_rows(
        &self,
        tensor: usize,
        rows: &Range<usize>,
        registry: &Registry,
    ) -> Result<(ChunkRecord, Payload), Error> {
        let mut work = Work::new(self, registry, &NoProgress)?;
        let encoder = work.encoder(tensor)?;
        encoder.encode(rows.clone(), &Ok(None))
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
    /// The source file of the last chunk, and its number. Its map is dropped with the unit, so that
    /// the pages do not fill the memory.
    open: Option<(usize, Checkpoint)>,
    /// The tensor of the last chunk, and what its chunks share.
    shared: Option<(usize, Shared)>,
    progress: &'a dyn Progress,
}

impl<'a> Work<'a> {
    fn new(plan: &'a Plan, registry: &Registry, progress: &'a dyn Progress) -> Result<Self, Error> {
        Ok(Self { plan, codecs: plan.make_codecs(registry)?, open: None, shared: None, progress })
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
            self.open = Some((tensor.file, plan.source.open(tensor.file)?));
        }
        let Some((_, model)) = &self.open else { return Err(plan.wrong("no source is open")) };
        let view = model.tensor(&tensor.name)?;
        if *view.spec() != tensor.spec {
            return Err(plan.wrong(format!("tensor `{}` is {} in the source", tensor.name, view.spec())));
        }
        let cx = EncodeCx::for_tensor(plan.seed, &tensor.name).with_progress(self.progress);
        Ok(Encoder { tensor, codecs: &self.codecs, view, cx, path: &model.files()[0] })
    }
}

/// Encodes chunks of one tensor.
struct Encoder<'a> {
    tensor: &'a PlannedTensor,
    codecs: &'a [Arc<dyn Codec>],
    view: TensorView<'a>,
    cx: EncodeCx<'a>,
    path: &'a std::path::Path,
}

impl Encoder<'_> {
    fn failed(&self, rows: &Range<usize>, error: CodecError) -> Error {
        let part = place(&self.tensor.name, rows);
        Error::Chunk { path: self.path.to_owned(), part, error: error.into() }
    }

    /// The statistics of the tensor, if it has several chunks and its codec needs them.
    fn survey(&self) -> Result<Shared, Error> {
        let (chunks, codec) = (self.tensor.chunks(), &self.codecs[self.tensor.codec]);
        let Some(surveyed) = codec.as_surveyed().filter(|_| chunks > 1) else { return Ok(Ok(None)) };
        let observe = |found: Option<&Statistics>, chunk: usize| {
            let rows = self.tensor.rows(chunk);
            let mut cx = self.cx.clone();
            cx.shared = found.map(Statistics::shared);
            surveyed.observe(self.view.rows(rows.start, rows.end)?, &cx.for_rows(&self.tensor.spec, rows)?)
        };
        match survey(surveyed, |found| (0..chunks).map(|chunk| observe(found, chunk)).collect()) {
            Ok(statistics) => Ok(Ok(Some(statistics))),
            Err(error) if refuses(&error) => Ok(Err(error.to_string())),
            Err(error) => Err(self.failed(&self.tensor.rows(0), error)),
        }
    }

    /// Encodes a chunk with the codec of the tensor, or exactly if that one refuses it.
    fn encode(&self, rows: Range<usize>, shared: &Shared) -> Result<(ChunkRecord, Payload), Error> {
        let failed = |error| self.failed(&rows, error);
        let planned = self.tensor.codec;
        let exactly = || self.try_codec(0, &rows, None).map_err(failed);
        let (codec, (encoded, blake3), refused) = match shared {
            Ok(statistics) => match self.try_codec(planned, &rows, statistics.as_ref()) {
                Ok(encoded) => (planned, encoded, self.tensor.refused.clone()),
                Err(error) if planned != 0 && refuses(&error) => (0, exactly()?, Some(error.to_string())),
                Err(error) => return Err(failed(error)),
            },
            Err(reason) => (0, exactly()?, Some(reason.clone())),
        };
        let sections = encoded.payload.sections().iter();
        let sections = sections.map(|(name, section)| (name.clone(), crc32c(section.data()))).collect();
        let (rows, certificate) = ([rows.start, rows.end], encoded.certificate);
        Ok((ChunkRecord { rows, codec, certificate, blake3, sections, refused }, encoded.payload))
    }

    /// Encodes rows, decodes them, and measures and hashes the decoded bytes.
    fn try_codec(
        &self,
        codec: usize,
        rows: &Range<usize>,
        statistics: Option<&Statistics>,
    ) -> Result<(EncodedTensor, Hash), CodecError> {
        let mut cx = self.cx.clone();
        cx.shared = statistics.map(Statistics::shared);
        let cx = cx.for_rows(&self.tensor.spec, rows.clone())?;
        let (codec, view) = (Arc::clone(&self.codecs[codec]), self.view.rows(rows.start, rows.end)?);
        if codec.as_lossless().is_some() {
            // The certificate says that these bytes come back.
            let hash = Hash::of(view.bytes());
            return Ok((EncodedTensor::encode(codec, view, &cx)?, hash));
        }
        let payload = EncodedTensor::encode_payload(&*codec, view.clone(), &cx)?;
        let unmeasured = EncodedTensor::from_parts(view.spec().clone(), codec, payload, Certificate::EMPTY)?;
        // A reader has the same limit.
        let mut limited = cx.decoding();
        limited.max_output = None;
        let decoded = unmeasured.decode_bytes(&limited)?;
        let EncodedTensor { codec, payload, .. } = unmeasured;
        let payload = payload.with_measured(certificate(&view, &decoded)?);
        Ok((EncodedTensor::certify(codec, &view, payload, &cx.decoding())?, Hash::of(&decoded)))
    }
}

/// Whether the codec is not made for the tensor, as opposed to a failure.
fn refuses(error: &CodecError) -> bool {
    error.is_refusal() || matches!(error, CodecError::NonFinite { .. })
}
