//! A text in progress.

use std::ops::Range;
use std::sync::Mutex;

use super::Decoder;
use super::cache::{Cache, CacheType};
use super::forward::{Local, Tokens};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::team::{Worker, guard};

/// Tokens that run through the layers together.
const CHUNK: usize = 128;

/// Bytes of logits that are computed at once, unless those of one position take more.
const LOGITS: usize = 2 << 20;

/// A text in progress: the tokens so far, as keys and values of each layer.
#[derive(Debug)]
pub struct Session<'a> {
    decoder: &'a Decoder,
    cache: Cache,
    locals: Vec<Mutex<Local>>,
    position: usize,
}

impl Decoder {
    /// Begins a text.
    pub fn session(&self, cache: CacheType) -> Session<'_> {
        let cache = Cache::new(self.config.layers, self.config.kv_heads, cache);
        let locals = (0..self.threads()).map(|_| Mutex::default()).collect();
        Session { decoder: self, cache, locals, position: 0 }
    }
}

impl Session<'_> {
    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.decoder.config
    }

    /// Number of tokens so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Goes back to the first `position` tokens. Later ones are forgotten.
    pub fn truncate(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Appends tokens, and calls `each` with the logits of the last one. `each` gets `vocabulary`
    /// logits: for each token, how likely it follows, as a logarithm without normalisation.
    ///
    /// # Errors
    /// [`Error::Usage`] without tokens, for tokens that the model does not have, and for a text
    /// longer than its context. Those of operators.
    pub fn feed<R>(&mut self, ids: &[u32], each: impl FnOnce(&[f32]) -> R) -> Result<R> {
        self.check(ids)?;
        self.run(ids, ids.len() - 1..ids.len(), &mut |_, _| Ok(()))?;
        Ok(self.with_logits(each))
    }

    /// Appends tokens, and calls `each` with the number of each token of `wanted` and its logits,
    /// in order.
    ///
    /// # Errors
    /// As [`Self::feed`]; those of `each`.
    pub fn feed_each(
        &mut self,
        ids: &[u32],
        wanted: Range<usize>,
        mut each: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        self.check(ids)?;
        self.run(ids, wanted.start..wanted.end.min(ids.len()), &mut each)
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        let config = &self.decoder.config;
        if ids.is_empty() {
            return Err(Error::Usage("there is no token to run".to_owned()));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= config.vocabulary) {
            let reason = format!("token {id} is not one of the {} tokens of the model", config.vocabulary);
            return Err(Error::Usage(format!("{reason}; text and model must have the same tokenizer")));
        }
        let len = self.position.saturating_add(ids.len());
        if len > config.context {
            let reason = format!("a text of {len} tokens is longer than the context of {}", config.context);
            return Err(Error::Usage(format!("{reason} tokens that the model was made for")));
        }
        Ok(())
    }

    fn run(
        &mut self,
        ids: &[u32],
        wanted: Range<usize>,
        each: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let vocabulary = self.decoder.config.vocabulary;
        for chunk in chunks(ids.len()) {
            let mut blocks = self.blocks(&wanted, &chunk);
            let mut next = blocks.next();
            self.layers(&ids[chunk.clone()], next.as_ref().map(|block| within(block, &chunk)).as_ref())?;
            while let Some(block) = next {
                self.with_logits(|logits| {
                    block.zip(logits.chunks_exact(vocabulary)).try_for_each(|(number, logits)| each(number, logits))
                })?;
                next = blocks.next();
                if let Some(block) = &next {
                    self.compute_logits(within(block, &chunk))?;
                }
            }
        }
        Ok(())
    }

    /// The parts of the wanted tokens in a chunk whose logits are computed at once.
    pub(crate) fn blocks(
        &self,
        wanted: &Range<usize>,
        chunk: &Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let at_once = LOGITS / size_of::<f32>() / self.decoder.config.vocabulary;
        pieces(wanted.start.max(chunk.start)..wanted.end.min(chunk.end), at_once.max(1))
    }

    /// Runs at most [`CHUNK`] tokens through the layers.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub(crate) fn advance(&mut self, ids: &[u32]) -> Result<()> {
        self.check(ids)?;
        self.layers(ids, None)
    }

    /// Runs tokens through the layers, and computes the logits of some of them in the same region.
    fn layers(&mut self, ids: &[u32], logits: Option<&Range<usize>>) -> Result<()> {
        self.cache.reserve((self.position + ids.len()) * self.decoder.config.head_width)?;
        let tokens = Tokens { ids, first: self.position };
        self.region(|worker, local| {
            self.decoder.run_layers(worker, tokens, &self.cache, local)?;
            logits.map_or(Ok(()), |block| self.decoder.run_head(worker, block.clone(), local))
        })?;
        self.position += ids.len();
        Ok(())
    }

    /// Computes the logits of a block ([`Self::blocks`]) of the tokens that [`Self::advance`] ran
    /// last, counted from the first of them ([`within`]).
    ///
    /// # Errors
    /// Those of operators.
    pub(crate) fn compute_logits(&self, tokens: Range<usize>) -> Result<()> {
        self.region(|worker, local| self.decoder.run_head(worker, tokens.clone(), local))
    }

    /// Calls `see` with the logits that were computed last, `positions × vocabulary`.
    pub(crate) fn with_logits<R>(&self, see: impl FnOnce(&[f32]) -> R) -> R {
        see(&guard(&self.locals[0]).logits)
    }

    /// Runs `work` on all threads, with the memory of each.
    fn region(&self, work: impl Fn(&Worker<'_>, &mut Local) -> Result<()> + Sync) -> Result<()> {
        self.decoder.team.run(|worker| work(worker, &mut guard(&self.locals[worker.index])))
    }
}

/// The parts of a text of so many tokens that run through the layers together.
pub(crate) fn chunks(tokens: usize) -> impl Iterator<Item = Range<usize>> {
    pieces(0..tokens, CHUNK)
}

/// A block, counted from the first token of its chunk.
pub(crate) fn within(block: &Range<usize>, chunk: &Range<usize>) -> Range<usize> {
    block.start - chunk.start..block.end - chunk.start
}

fn pieces(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(len).map(move |start| start..(start + len).min(end))
}
