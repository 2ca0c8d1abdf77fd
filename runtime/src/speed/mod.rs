//! How fast a model runs: tokens per second, and the share of the speed at which the same threads
//! read memory.
//!
//! A decoder reads all weights for each token, so that tokens per second are at most the bandwidth
//! of memory divided by the bytes of the weights, unless the weights fit into a cache.

mod bandwidth;
mod dense;
mod shape;

use std::time::Instant;

pub use bandwidth::Bandwidth;
pub use dense::write_as;
pub use shape::Shape;

use crate::decoder::{CacheType, Decoder};
use crate::error::{Error, Result};

/// Numbers of tokens of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Tokens of the prompt, which run together.
    pub prompt: usize,
    /// Tokens after the prompt, which run one by one.
    pub tokens: usize,
}

/// Tokens per second.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Of the prompt.
    pub prefill: f64,
    /// Of the tokens after it.
    pub decode: f64,
}

/// Runs a prompt and the tokens after it, which are arbitrary ones, and measures the time of both.
/// Tokens are not sampled.
///
/// # Errors
/// [`Error::Usage`] without tokens, and for more tokens than the model's context has; those of
/// operators.
pub fn measure(decoder: &Decoder, lengths: Lengths) -> Result<Speed> {
    if lengths.prompt == 0 || lengths.tokens == 0 {
        return Err(Error::Usage("a speed needs at least one token of prompt and one after it".to_owned()));
    }
    let vocabulary = decoder.config().vocabulary;
    // Neighbours of a vocabulary may have neighbouring rows: these steps are far from each other.
    let ids: Vec<u32> = (0..lengths.prompt + lengths.tokens).map(|i| (i * 7919 % vocabulary) as u32).collect();
    let (prompt, rest) = ids.split_at(lengths.prompt);
    let mut session = decoder.session(CacheType::F32);
    let mut time = |ids: &[u32]| -> Result<f64> {
        let begin = Instant::now();
        session.feed(ids, |_| ())?;
        Ok(begin.elapsed().as_secs_f64())
    };
    let prefill = prompt.len() as f64 / time(prompt)?;
    let seconds = rest.iter().map(|id| time(&[*id])).sum::<Result<f64>>()?;
    Ok(Speed { prefill, decode: rest.len() as f64 / seconds })
}
