//! A small trained language model, packed by recipes beside the dense one.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use checkpoint::{Model, PACKED_EXTENSION, Packed, Recipe};
use runtime::{Decoder, Evaluation, Options, Protocol, Text, Tokenizer, evaluate};

use crate::lab::Lab;

/// The model, and texts that it was not trained on, below the root.
pub(super) const MODEL: &str = "assets/stories260k";
pub(super) const STORIES: &str = "assets/tinystories/eval.jsonl";
/// Stories of [`STORIES`] that are predicted.
pub(super) const COUNT: usize = 60;

/// The dense model.
#[derive(Debug)]
pub(super) struct Language<'a> {
    lab: &'a Lab,
    path: PathBuf,
    dense: Decoder,
    tokenizer: Tokenizer,
}

/// A packed model, and how it predicts.
#[derive(Debug)]
pub(super) struct Found {
    /// Dense bytes divided by the bytes of all payloads.
    pub(super) ratio: f64,
    pub(super) evaluation: Evaluation,
}

impl<'a> Language<'a> {
    /// # Errors
    /// If the model cannot be read.
    pub(super) fn open(lab: &'a Lab) -> Result<Self> {
        let path = lab.root.join(MODEL);
        let (model, tokenizer) = (Model::open(&path, &[], &lab.registry)?, Tokenizer::open(&path)?);
        let dense = Decoder::open(&model, Options::new(threads()))?;
        Ok(Self { lab, path, dense, tokenizer })
    }

    /// The first [`COUNT`] stories, each a text of its own.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn stories(&self) -> Result<Vec<Text>> {
        let path = self.lab.root.join(STORIES);
        let lines = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = |line: &str| {
            let story: serde_json::Value = serde_json::from_str(line)?;
            self.text(story["text"].as_str().context("a line without a text")?)
        };
        lines.lines().take(COUNT).map(text).collect()
    }

    /// A text of which one window counts.
    ///
    /// # Errors
    /// If it has no tokens.
    pub(super) fn text(&self, text: &str) -> Result<Text> {
        Ok(Text { ids: self.tokenizer.encode(text)?, bytes: Some(text.len() as u64), first_window: true })
    }

    /// How the dense model predicts texts.
    ///
    /// # Errors
    /// Those of [`evaluate`].
    pub(super) fn dense(&self, texts: &[Text], protocol: Protocol) -> Result<Evaluation> {
        Ok(evaluate(&self.dense, None, texts, protocol, |_| Ok(()))?)
    }

    /// Packs the model and predicts texts with it, beside the dense one.
    ///
    /// # Errors
    /// If it cannot be packed or run.
    pub(super) fn packed(&self, recipe: &Recipe, texts: &[Text], protocol: Protocol) -> Result<Found> {
        let folder = tempfile::tempdir().context("cannot make a directory for the packed model")?;
        let target = folder.path().join(format!("model{PACKED_EXTENSION}"));
        self.lab.pack(&self.path, &target, &[], recipe)?;
        fs::copy(self.path.join("config.json"), folder.path().join("config.json"))?;
        let model = Model::open(&target, &[], &self.lab.registry)?;
        let decoder = Decoder::open(&model, Options::new(threads()))?;
        let evaluation = evaluate(&decoder, Some(&self.dense), texts, protocol, |_| Ok(()))?;
        Ok(Found { ratio: ratio(&Packed::open(&target, &self.lab.registry)?), evaluation })
    }
}

/// Dense bytes divided by the bytes of all payloads.
fn ratio(packed: &Packed) -> f64 {
    let (mut dense, mut bytes) = (0, 0);
    for tensor in packed.tensors() {
        dense += tensor.spec().byte_len() as u64;
        bytes += tensor.bytes();
    }
    dense as f64 / bytes as f64
}

/// A thread for each core.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Found {
    /// Change of the perplexity and its standard error, in percent of that of the dense model.
    pub(super) fn change(&self) -> (f64, f64) {
        self.evaluation.difference.as_ref().map_or((f64::NAN, f64::NAN), |found| {
            let percent = |change: f64| 100.0 * change / found.reference_perplexity;
            (percent(found.perplexity_change), percent(found.perplexity_change_error))
        })
    }

    /// Divergence from the dense model in nats per token, and the share of tokens for which both
    /// have the same most likely one.
    pub(super) fn divergence(&self) -> (f64, f64) {
        self.evaluation.difference.as_ref().map_or((f64::NAN, f64::NAN), |found| (found.kl, found.top1))
    }
}
