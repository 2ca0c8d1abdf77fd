//! A text in progress.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::Decoder;
use super::cache::{Cache, CacheType};
use super::forward::{Local, Tokens};
use crate::error::{Error, Result};
use crate::team::Worker;

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

    /// Appends tokens, and calls `each` with the number of each token of `wanted` and its logits, in
    /// order.
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
        let at_once = (LOGITS / size_of::<f32>() / self.decoder.config.vocabulary).max(1);
        self.cache.reserve((self.position + ids.len()) * self.decoder.config.head_width)?;
        for (number, chunk) in ids.chunks(CHUNK).enumerate() {
            let first = number * CHUNK;
            let own = wanted.start.max(first)..wanted.end.min(first + chunk.len());
            let blocks = own.clone().step_by(at_once).map(|start| start..(start + at_once).min(own.end));
            let mut blocks = blocks.map(|block| block.start - first..block.end - first);
            let tokens = Tokens { ids: chunk, first: self.position };
            let mut block = blocks.next();
            // The logits of the first block are part of the same region.
            self.region(|worker, local| {
                self.decoder.run_layers(worker, tokens, &self.cache, local)?;
                block.clone().map_or(Ok(()), |block| self.decoder.run_head(worker, block, local))
            })?;
            self.position += chunk.len();
            while let Some(done) = block {
                self.hand_over(first, &done, each)?;
                block = blocks.next();
                if let Some(block) = block.clone() {
                    self.region(|worker, local| self.decoder.run_head(worker, block.clone(), local))?;
                }
            }
        }
        Ok(())
    }

    /// Runs `work` on all threads, with the memory of each.
    fn region(&self, work: impl Fn(&Worker<'_>, &mut Local) -> Result<()> + Sync) -> Result<()> {
        self.decoder.team.run(|worker| {
            let mut local = self.locals[worker.index].lock().unwrap_or_else(PoisonError::into_inner);
            work(worker, &mut local)
        })
    }

    /// Calls `each` with the logits of a block.
    fn hand_over(
        &self,
        first: usize,
        block: &Range<usize>,
        each: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let local = self.locals[0].lock().unwrap_or_else(PoisonError::into_inner);
        let logits = local.logits.chunks_exact(self.decoder.config.vocabulary);
        block.clone().zip(logits).try_for_each(|(token, logits)| each(first + token, logits))
    }
}
