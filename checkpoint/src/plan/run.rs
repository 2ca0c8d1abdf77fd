//! Runs units.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use codec_api::{Codec, EncodeCx, NoProgress, Payload, Progress, Registry, Statistics, TensorView};
use rayon::prelude::*;

use super::Plan;
use super::base::PlannedBase;
use super::encoder::{Encoder, Values};
use super::parts::Done;
use crate::error::Error;
use crate::model::Model;
use crate::packed::{ChunkRecord, Hash};

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
    /// Runs all units on rayon's current pool. `progress` gets the number of encoded weights, and
    /// may cancel the run; parts that are finished stay.
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
    /// codec fails, or is cancelled; [`Error::Cancelled`]; [`Error::Write`]; [`Error::Plan`] if
    /// there is no such unit.
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
        Error::check(self.progress)?;
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
        let cx = EncodeCx::for_tensor(plan.seed, &tensor.name);
        let cx = cx.with_progress(self.progress).with_cancel(self.progress.cancel());
        let record = tensor.base.and_then(|number| plan.base.as_ref()?.tensors.get(number));
        let base = self.base.as_ref().zip(record);
        Ok(Encoder { tensor, codecs: &self.codecs, base, values, cx, model, by: self.by })
    }
}
