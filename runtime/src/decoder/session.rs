//! A text in progress.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::Decoder;
use super::cache::{Cache, CacheType};
use super::forward::{Local, Tokens};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::team::Worker;

/// Tokens that run through the layers together.
pub(crate) const CHUNK: usize = 128;

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

    /// Bytes of the cache of keys and values.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Goes back to the first `position` tokens. Later ones are forgotten.
    pub fn truncate(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Appends tokens, and calls `each` with the logits of the last one: for each token of the
    /// vocabulary, how likely it follows, as a logarithm without normalisation.
    ///
    /// # Errors
    /// [`Error::Usage`] without tokens, for tokens that the model does not have, and for a text
    /// longer than its context. Those of operators.
    pub fn feed<R>(&mut self, ids: &[u32], each: impl FnOnce(&[f32]) -> R) -> Result<R> {
        self.check(ids)?;
        let mut each = Some(each);
        let mut result = None;
        let last = ids.len() - 1;
        self.run(ids, last..ids.len(), &mut |_, logits| {
            result = each.take().map(|each| each(logits));
            Ok(())
        })?;
        result.ok_or_else(|| Error::Usage("there are no logits".to_owned()))
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
        let at_once = self.block();
        for (number, chunk) in ids.chunks(CHUNK).enumerate() {
            let first = number * CHUNK;
            let own = wanted.start.max(first)..wanted.end.min(first + chunk.len());
            let mut starts = own.clone().step_by(at_once);
            let block = |start: usize| start - first..(start + at_once).min(own.end) - first;
            let mut next = starts.next().map(block);
            self.layers(chunk, next.as_ref())?;
            while let Some(block_now) = next {
                let count = block_now.len();
                let numbers = first + block_now.start..;
                let vocabulary = self.decoder.config.vocabulary;
                self.with_logits(|logits| {
                    numbers.zip(logits.chunks_exact(vocabulary).take(count)).try_for_each(|(i, logits)| each(i, logits))
                })?;
                next = starts.next().map(block);
                if let Some(block) = next.clone() {
                    self.compute_logits(block)?;
                }
            }
        }
        Ok(())
    }

    /// Positions whose logits are computed at once.
    pub(crate) fn block(&self) -> usize {
        (LOGITS / size_of::<f32>() / self.decoder.config.vocabulary).max(1)
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

    /// Computes the logits of at most [`Self::block`] of the tokens that [`Self::advance`] ran
    /// last, counted from the first of them.
    ///
    /// # Errors
    /// Those of operators.
    pub(crate) fn compute_logits(&self, tokens: Range<usize>) -> Result<()> {
        self.region(|worker, local| self.decoder.run_head(worker, tokens.clone(), local))
    }

    /// Calls `see` with the logits that were computed last, `positions × vocabulary`.
    pub(crate) fn with_logits<R>(&self, see: impl FnOnce(&[f32]) -> R) -> R {
        see(&self.locals[0].lock().unwrap_or_else(PoisonError::into_inner).logits)
    }

    /// Runs `work` on all threads, with the memory of each.
    fn region(&self, work: impl Fn(&Worker<'_>, &mut Local) -> Result<()> + Sync) -> Result<()> {
        self.decoder.team.run(|worker| {
            let mut local = self.locals[worker.index].lock().unwrap_or_else(PoisonError::into_inner);
            work(worker, &mut local)
        })
    }
}
