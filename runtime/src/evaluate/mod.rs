//! How well a model predicts a text, and how far it is from a reference model.

mod likelihood;
mod statistics;
mod windows;

use std::time::{Duration, Instant};

pub use statistics::{Difference, WindowSums};
pub use windows::{Protocol, Text};

use crate::decoder::{CacheType, Decoder, Session, chunks, within};
use crate::error::{Error, Result};
pub(crate) use likelihood::Distribution;
use statistics::Sums;
use windows::Window;

/// The result of [`evaluate`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Evaluation {
    /// Number of predicted tokens.
    pub tokens: u64,
    /// Negative log-likelihood of these tokens in nats, summed.
    pub nll: f64,
    /// Bits for each byte of text, if the texts are known: bits per predicted token, times tokens
    /// per byte of all texts.
    pub bits_per_byte: Option<f64>,
    /// Tokens that ran through the model, predicted or not.
    pub processed: u64,
    /// Time of these tokens.
    pub time: Duration,
    /// The difference from the reference model.
    pub difference: Option<Difference>,
    /// The sums of each window, in order.
    pub windows: Vec<WindowSums>,
}

impl Evaluation {
    /// `e` to the power of the mean negative log-likelihood.
    pub fn perplexity(&self) -> f64 {
        libm::exp(self.nll / self.tokens as f64)
    }

    /// Tokens that ran through the model in a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.processed as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Predicts texts window by window, with a reference model beside it if there is one. Both models
/// must have the same vocabulary. `each` is called after each window, with the number of tokens
/// that the window had; an error of it ends the work.
///
/// Memory does not grow with the text, except for 40 bytes per window, and with a reference for
/// four bytes per token.
///
/// # Errors
/// [`Error::Usage`] if no text has two tokens, if the protocol does not fit the model, or if the
/// vocabularies differ; those of [`Session::feed`] and of `each`.
pub fn evaluate(
    decoder: &Decoder,
    reference: Option<&Decoder>,
    texts: &[Text],
    protocol: Protocol,
    mut each: impl FnMut(u64) -> Result<()>,
) -> Result<Evaluation> {
    let windows = protocol.windows(decoder, texts)?;
    if let Some(reference) = reference {
        check_pair(decoder, reference)?;
    }
    let mut session = decoder.session(CacheType::F32);
    let mut other = reference.map(|reference| reference.session(CacheType::F32));
    let (mut sums, mut processed, mut time) = (Sums::default(), 0, Duration::ZERO);
    for window in windows {
        session.truncate(0);
        if let Some(other) = &mut other {
            other.truncate(0);
        }
        sums.begin_window();
        time += run(&mut session, other.as_mut(), &window, &mut sums)?;
        processed += window.ids.len() as u64;
        each(window.ids.len() as u64)?;
    }
    let bits = sums.nll / sums.tokens as f64 / std::f64::consts::LN_2;
    Ok(Evaluation {
        tokens: sums.tokens,
        nll: sums.nll,
        bits_per_byte: windows::tokens_per_byte(texts).map(|tokens| bits * tokens),
        processed,
        time,
        windows: std::mem::take(&mut sums.windows),
        difference: reference.map(|_| sums.difference()),
    })
}

fn check_pair(decoder: &Decoder, reference: &Decoder) -> Result<()> {
    let (ours, theirs) = (decoder.config().vocabulary, reference.config().vocabulary);
    if ours == theirs {
        return Ok(());
    }
    let reason = format!("the reference model has {theirs} tokens, the model {ours}");
    Err(Error::Usage(format!("{reason}; only models with the same tokenizer can be compared")))
}

/// Predicts a window; the result is the time that the model took.
fn run(
    session: &mut Session<'_>,
    mut other: Option<&mut Session<'_>>,
    window: &Window<'_>,
    sums: &mut Sums,
) -> Result<Duration> {
    // The logits of position i predict token i + 1.
    let wanted = window.first.max(1) - 1..window.ids.len() - 1;
    let mut time = Duration::ZERO;
    for chunk in chunks(window.ids.len()) {
        let begin = Instant::now();
        session.advance(&window.ids[chunk.clone()])?;
        time += begin.elapsed();
        if let Some(other) = &mut other {
            other.advance(&window.ids[chunk.clone()])?;
        }
        for block in session.blocks(&wanted, &chunk) {
            let place = within(&block, &chunk);
            let targets = &window.ids[block.start + 1..=block.end];
            let begin = Instant::now();
            session.compute_logits(place.clone())?;
            time += begin.elapsed();
            match &mut other {
                Some(other) => {
                    other.compute_logits(place)?;
                    session.with_logits(|logits| other.with_logits(|others| compare(logits, others, targets, sums)));
                }
                None => session.with_logits(|logits| {
                    for (logits, target) in logits.chunks_exact(logits.len() / targets.len()).zip(targets) {
                        sums.add(-Distribution::new(logits).log_likelihood(*target));
                    }
                }),
            }
        }
    }
    Ok(time)
}

/// Adds the figures of a block of logits of both models.
fn compare(logits: &[f32], others: &[f32], targets: &[u32], sums: &mut Sums) {
    let vocabulary = logits.len() / targets.len();
    let pairs = logits.chunks_exact(vocabulary).zip(others.chunks_exact(vocabulary));
    for ((logits, others), target) in pairs.zip(targets) {
        let (own, other) = (Distribution::new(logits), Distribution::new(others));
        let (divergence, same) = other.divergence_of(&own);
        sums.add_pair(-own.log_likelihood(*target), -other.log_likelihood(*target), divergence, same);
    }
}
