//! Runs language models.

use std::path::PathBuf;

use checkpoint::Model;
use codec_api::{Progress, Registry};
use pyo3::prelude::*;
use runtime::{
    CacheType, Decoder, Options, Protocol, Resident, Sampler, Sampling, Stops, Text, Tokenizer, directory, evaluate,
};
use serde_json::json;

use crate::error::{Error, Result};
use crate::guest::registry;
use crate::work::{self, cores};

/// How a model runs.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Running {
    bases: Vec<PathBuf>,
    threads: Option<usize>,
    dense: bool,
    memory: Option<u64>,
}

impl Running {
    fn open(&self, path: &PathBuf, bases: &[PathBuf], registry: &Registry) -> Result<(Model, Decoder)> {
        let model = Model::open(path, bases, registry)?;
        let resident = if self.dense { Resident::Dense } else { Resident::Packed };
        let options = Options::new(cores(self.threads)?).with_resident(resident);
        let options = self.memory.map_or(options, |bytes| options.with_memory(bytes));
        let decoder = Decoder::open(&model, options)?;
        Ok((model, decoder))
    }
}

/// What is predicted.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Task {
    texts: Vec<String>,
    first_window: bool,
    context: Option<usize>,
    stride: Option<usize>,
    windows: Option<usize>,
    skip: usize,
}

/// JSON: how well a model predicts texts.
#[pyfunction]
pub fn eval(py: Python<'_>, path: PathBuf, task: Task, reference: Option<PathBuf>, running: Running) -> Result<String> {
    let registry = registry()?;
    work::apart(py, None, move |state| {
        let (model, decoder) = running.open(&path, &running.bases, &registry)?;
        let other = reference.map(|path| Ok::<_, Error>(running.open(&path, &[], &registry)?.1)).transpose()?;
        let tokenizer = Tokenizer::open(directory(&model))?;
        let text = |text: &String| {
            let (ids, bytes) = (tokenizer.encode(text)?, Some(text.len() as u64));
            Ok(Text { ids, bytes, first_window: task.first_window })
        };
        let texts = task.texts.iter().map(text).collect::<Result<Vec<_>>>()?;
        let protocol = Protocol { context: task.context, stride: task.stride, windows: task.windows, skip: task.skip };
        let (context, stride) = protocol.sizes(&decoder)?;
        let all = Protocol { windows: None, skip: 0, ..protocol }.count(&decoder, &texts)?;
        let each = |_| Ok(state.cancel().check()?);
        let found = evaluate(&decoder, other.as_ref(), &texts, protocol, each)?;
        let mut value = json!({
            "tokens": found.tokens,
            "nll": found.nll,
            "perplexity": found.perplexity(),
            "bits_per_byte": found.bits_per_byte,
            "context": context,
            "stride": stride,
            "tokens_per_s": found.tokens_per_second(),
            "resident_bytes": decoder.resident_bytes(),
            "threads": decoder.threads(),
            "windows": found.windows.len(),
            "all_windows": all,
        });
        if let Some(difference) = &found.difference {
            let [median, most, nearly_all] = difference.kl_quantiles;
            value["kl"] = json!(difference.kl);
            value["kl_median"] = json!(median);
            value["kl_99"] = json!(most);
            value["kl_999"] = json!(nearly_all);
            value["top1"] = json!(difference.top1);
            value["reference_perplexity"] = json!(difference.reference_perplexity);
            value["perplexity_change"] = json!(difference.perplexity_change);
            value["perplexity_change_error"] = json!(difference.perplexity_change_error);
        }
        Ok(serde_json::to_string(&value)?)
    })
}

/// What is written.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Writing {
    prompt: String,
    tokens: usize,
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: f32,
    seed: u64,
    stop: Vec<String>,
}

impl Writing {
    fn sampling(&self) -> Result<Sampling> {
        let share = |n: Option<f32>| n.is_none_or(|n| (0.0..=1.0).contains(&n));
        let wrong = |what: &str| Err(Error::value(what));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("temperature must be a number from 0");
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return wrong("repetition_penalty must be a number above 0");
        }
        if !share(self.top_p) || !share(self.min_p) {
            return wrong("top_p and min_p must be from 0 to 1");
        }
        if self.top_k == Some(0) {
            return wrong("top_k must be at least 1");
        }
        Ok(Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        })
    }
}

/// Continues a text.
#[pyfunction]
pub fn generate(py: Python<'_>, path: PathBuf, writing: Writing, running: Running) -> Result<String> {
    let (registry, sampling) = (registry()?, writing.sampling()?);
    work::apart(py, None, move |state| {
        let (model, decoder) = running.open(&path, &running.bases, &registry)?;
        let tokenizer = Tokenizer::open(directory(&model))?;
        let mut prompt = tokenizer.encode(&writing.prompt)?;
        // A tokenizer without special tokens has none for an empty text; the model may.
        if prompt.is_empty() {
            prompt.extend(decoder.config().begin);
        }
        let (mut sampler, stops) = (Sampler::new(sampling), Stops::new(writing.stop.iter().cloned()));
        let (mut session, mut text) = (decoder.session(CacheType::F32), String::new());
        runtime::generate(&mut session, &tokenizer, &prompt, writing.tokens, (&mut sampler, stops), |piece| {
            text.push_str(piece);
            state.cancel().check().is_ok()
        })?;
        Ok(text)
    })
}
