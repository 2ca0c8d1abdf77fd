//! Chooses the codec of a tensor by trial.
//!
//! The choice needs the whole tensor, whose chunks may be in several units, and units know nothing
//! of each other. Therefore it is made at planning: the plan remains a plain file that names the
//! codec of every tensor, and the target does not depend on how units are shared between processes.
//! The price is that planning encodes: a small tensor once with each candidate; a large one in a
//! sample with each candidate, and as a whole with those that win there, until one keeps the goal.
//! A trial encodes with the seed and the chunks of the unit, so that the measured bytes and errors
//! are those of the target.

use std::sync::Arc;

use codec_api::{Certificate, Codec, EncodeCx, TensorView};
use serde::{Deserialize, Serialize};

use super::PlannedTensor;
use super::encoder::{Encoder, Values, failed};
use super::make::chunk_rows;
use crate::error::Error;
use crate::model::Model;
use crate::recipe::{Candidate, FALLBACK, Goal};

/// Most weights of a tensor that is tried as a whole with every candidate, and weights of the
/// sample of a larger one.
const SAMPLE: usize = 1 << 20;

/// Number of places in the tensor that the sample is taken from.
const PLACES: usize = 4;

/// Candidates that miss the goal by so much in the sample may keep it in the tensor.
const SLACK: f64 = 1.05;

/// A candidate for a tensor that was chosen by trial, and what it gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tried {
    /// Codec spec.
    pub codec: String,
    /// Bytes of the sections; `None` if the candidate refuses the tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// `‖w − ŵ‖/‖w‖` in the stored dtype; `None` if the candidate refuses the tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// Whether the numbers are those of a sample of rows, the bytes in proportion.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
    /// Why the candidate refuses the tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A tensor whose codec the candidates compete for.
pub(super) struct Contest<'a> {
    pub(super) name: &'a str,
    pub(super) view: TensorView<'a>,
    /// The source file.
    pub(super) model: &'a Model,
    /// Seed of the model.
    pub(super) seed: u64,
    pub(super) goal: Goal,
    /// Encodes what a candidate refuses.
    pub(super) fallback: Arc<dyn Codec>,
}

impl Contest<'_> {
    /// The candidate that suits the goal best; if none keeps it, the fallback for a goal of error,
    /// and the smallest for a goal of bits. What was tried follows, the chosen codec first.
    ///
    /// # Errors
    /// Those of an encode that are no refusals.
    pub(super) fn choose(&self, candidates: &[Candidate]) -> Result<(Arc<dyn Codec>, Vec<Tried>), Error> {
        let weights = self.view.spec().elements();
        let sample = if weights > SAMPLE { self.sample()? } else { Vec::new() };
        let parts = if sample.is_empty() { std::slice::from_ref(&self.view) } else { &sample[..] };
        let try_one = |candidate| self.measure(candidate, parts);
        let mut tried = candidates.iter().map(try_one).collect::<Result<Vec<_>, _>>()?;
        let whole = |tried: &mut Tried, candidate: &Candidate| {
            if tried.sample {
                *tried = self.measure(candidate, std::slice::from_ref(&self.view))?;
            }
            Ok::<_, Error>(())
        };
        let mut chosen = None;
        for i in self.ranking(&tried) {
            whole(&mut tried[i], &candidates[i])?;
            if self.is_met(&tried[i], 1.0) {
                chosen = Some(i);
                break;
            }
        }
        if chosen.is_none() && matches!(self.goal, Goal::Bits(_)) {
            let measured = (0..tried.len()).filter(|i| tried[*i].bytes.is_some());
            chosen = measured.min_by_key(|i| tried[*i].bytes);
        }
        if let Some((i, Ok(codec))) = chosen.map(|i| (i, &candidates[i].1)) {
            whole(&mut tried[i], &candidates[i])?;
            tried[..=i].rotate_right(1);
            return Ok((Arc::clone(codec), tried));
        }
        let fallback: Candidate = (FALLBACK.to_owned(), Ok(Arc::clone(&self.fallback)));
        tried.insert(0, self.measure(&fallback, std::slice::from_ref(&self.view))?);
        Ok((Arc::clone(&self.fallback), tried))
    }

    /// Bits per weight.
    fn bits(&self, bytes: u64) -> f64 {
        8.0 * bytes as f64 / self.view.spec().elements().max(1) as f64
    }

    fn is_met(&self, tried: &Tried, slack: f64) -> bool {
        tried.bytes.zip(tried.error).is_some_and(|(bytes, error)| self.goal.is_met(error, self.bits(bytes), slack))
    }

    /// The candidates that may keep the goal, the best first.
    fn ranking(&self, tried: &[Tried]) -> Vec<usize> {
        let slack = |tried: &Tried| if tried.sample { SLACK } else { 1.0 };
        let mut ranked: Vec<usize> = (0..tried.len()).filter(|i| self.is_met(&tried[*i], slack(&tried[*i]))).collect();
        let rank = |i: usize| {
            let (bytes, error) = tried[i].bytes.zip(tried[i].error).unwrap_or_default();
            self.goal.rank(error, self.bits(bytes))
        };
        // The sort is stable: of equal candidates the first wins.
        ranked.sort_by(|a, b| {
            let (a, b) = (rank(*a), rank(*b));
            a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1]))
        });
        ranked
    }

    /// Rows from a few places of the tensor; none if a single row is too long for it.
    fn sample(&self) -> Result<Vec<TensorView<'_>>, Error> {
        let (rows, columns) = self.view.spec().matrix();
        let taken = SAMPLE / PLACES / columns.max(1);
        if taken == 0 {
            return Ok(Vec::new());
        }
        let part = |i: usize| {
            let share = rows / PLACES;
            let first = i * share + (share - taken) / 2;
            let rows = self.view.rows(first, first + taken);
            rows.map_err(|error| failed(self.model, self.name, &(first..first + taken), error))
        };
        (0..PLACES).map(part).collect()
    }

    /// Encodes parts of the tensor, or the tensor itself.
    fn measure(&self, (spec, codec): &Candidate, parts: &[TensorView<'_>]) -> Result<Tried, Error> {
        let (mut bytes, mut weights, mut sum) = (0, 0, Certificate::EMPTY);
        let mut tried = Tried { codec: spec.clone(), bytes: None, error: None, sample: false, refused: None };
        for part in parts {
            let encoded = match codec {
                Ok(codec) => self.encode(codec, part)?,
                Err(reason) => Err(reason.clone()),
            };
            match encoded {
                Ok((of_part, certificate)) => {
                    bytes += of_part;
                    weights += part.spec().elements();
                    sum.add(&certificate);
                }
                Err(reason) => {
                    tried.refused = Some(reason);
                    return Ok(tried);
                }
            }
        }
        let all = self.view.spec().elements();
        tried.sample = weights < all;
        if tried.sample {
            bytes = (bytes as f64 * all as f64 / weights as f64) as u64;
        }
        (tried.bytes, tried.error) = (Some(bytes), Some(sum.rel_frobenius()));
        Ok(tried)
    }

    /// Bytes and error of an encoded part, or why the codec refuses it.
    fn encode(
        &self,
        codec: &Arc<dyn Codec>,
        part: &TensorView<'_>,
    ) -> Result<Result<(u64, Certificate), String>, Error> {
        let spec = part.spec().clone();
        if let Err(error) = codec.accepts(&spec) {
            return Ok(Err(error.to_string()));
        }
        let chunk_rows = chunk_rows(&**codec, &spec);
        let tensor = PlannedTensor {
            name: self.name.to_owned(),
            file: 0,
            spec,
            codec: 1,
            chunk_rows,
            same_as: None,
            base: None,
            equals_base: false,
            refused: None,
            tried: Vec::new(),
        };
        let codecs = [Arc::clone(&self.fallback), Arc::clone(codec)];
        let cx = EncodeCx::for_tensor(self.seed, self.name);
        let values = Values::Stored(part.clone());
        let encoder = Encoder { tensor: &tensor, codecs: &codecs, base: None, values, cx, model: self.model, by: None };
        let shared = encoder.survey()?;
        let (mut bytes, mut sum) = (0, Certificate::EMPTY);
        for chunk in 0..tensor.chunks() {
            let (record, payload) = encoder.encode(tensor.rows(chunk), &shared)?;
            if let Some(reason) = record.refused {
                return Ok(Err(reason));
            }
            bytes += payload.bytes();
            sum.add(&record.certificate);
        }
        Ok(Ok((bytes, sum)))
    }
}
