//! Collects statistics from texts.

use codec_api::EncodeCx;
use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};
use runtime::{Batch, Differentiable};

use super::sums::Sums;
use super::{About, Statistics};
use crate::error::{Error, Result};

/// Tokens that run together: their activations are in memory for one layer.
const BATCH: usize = 2048;

/// Fewest tokens of a sequence, unless no text has more.
const SHORT: usize = 16;

/// One of so many parts of the tokens is held out.
const HELD_OUT: usize = 9;

/// A text for calibration.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its tokens, special ones included.
    pub ids: Vec<u32>,
    /// Whether only its first sequence counts.
    pub first_sequence: bool,
}

/// How texts are used.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Most tokens of a sequence.
    pub context: usize,
    /// Most tokens of all sequences.
    pub tokens: usize,
    /// Seed of the choice of sequences, and of the labels.
    pub seed: u64,
    /// Leave out the passes backward, and with them the curvatures of outputs.
    pub forward_only: bool,
}

/// Runs the model on sequences of the texts, in an order that the seed gives, and sums up what its
/// linear layers see. `each` is told the number of tokens that are done, and of all; an error of it
/// ends the work.
///
/// The result is the same with any number of threads. Its last bits may depend on the CPU, because
/// the crate `faer` selects its instructions.
///
/// # Errors
/// [`Error::Usage`] if the texts are too short; those of [`Differentiable::observe`]; those of
/// `each`; [`Error::Tensor`] for a curvature that is not finite.
pub fn collect(
    model: &Differentiable,
    hash: &str,
    texts: &[Text],
    protocol: Protocol,
    mut each: impl FnMut(usize, usize) -> Result<()>,
) -> Result<Statistics> {
    let [sequences, held_out] = sequences(model, texts, protocol)?;
    let all: usize = sequences.iter().map(Vec::len).sum();
    let mut sums = Sums::new(model);
    let labels = (!protocol.forward_only).then_some(protocol.seed);
    let (mut first, mut done) = (0, 0);
    for sequences in batches(&sequences) {
        let views: Vec<&[u32]> = sequences.iter().map(|ids| &**ids).collect();
        let batch = Batch { sequences: &views, first };
        model.observe(&batch, labels, &mut sums)?;
        sums.count(&batch);
        (first, done) = (first + sequences.len(), done + batch.tokens());
        each(done, all)?;
    }
    let Protocol { context, seed, forward_only, .. } = protocol;
    let about = About { model: hash.to_owned(), context, seed, forward_only };
    Ok(Statistics { about, sequences, held_out, tensors: sums.statistics(model)? })
}

/// Cuts sequences into batches, which run together.
pub(crate) fn batches(sequences: &[Vec<u32>]) -> Vec<&[Vec<u32>]> {
    let (mut batches, mut rest) = (Vec::new(), sequences);
    while !rest.is_empty() {
        let (batch, others) = rest.split_at(fitting(rest, BATCH).max(1));
        batches.push(batch);
        rest = others;
    }
    batches
}

/// The sequences that are used, in their order, and those that are held out.
fn sequences(model: &Differentiable, texts: &[Text], protocol: Protocol) -> Result<[Vec<Vec<u32>>; 2]> {
    let config = model.config();
    if !(2..=config.context).contains(&protocol.context) {
        let reason = format!("sequences of {} tokens; the model allows 2 to {}", protocol.context, config.context);
        return Err(Error::Usage(reason));
    }
    let mut all: Vec<&[u32]> = Vec::new();
    for text in texts {
        let sequences = text.ids.chunks(protocol.context).filter(|ids| ids.len() >= SHORT.min(protocol.context));
        all.extend(sequences.take(if text.first_sequence { 1 } else { usize::MAX }));
    }
    shuffle(&mut all, protocol.seed);
    let available: usize = all.iter().map(|ids| ids.len()).sum();
    let tokens = protocol.tokens.min(available - available / HELD_OUT);
    let (kept, rest) = all.split_at(fitting(&all, tokens));
    let held_out = &rest[..fitting(rest, tokens / (HELD_OUT - 1))];
    let (tokens, width) = (kept.iter().map(|ids| ids.len()).sum::<usize>(), config.width);
    if tokens < width {
        let reason = format!("{tokens} tokens in sequences of at least {SHORT}");
        return Err(Error::Usage(format!("{reason} are too few: a layer has {width} inputs; give more text")));
    }
    Ok([kept, held_out].map(|sequences| sequences.iter().map(|ids| ids.to_vec()).collect()))
}

/// How many of the first sequences have at most so many tokens.
fn fitting(sequences: &[impl AsRef<[u32]>], most: usize) -> usize {
    let mut tokens = 0;
    let fitting = sequences.iter().take_while(|ids| {
        tokens += ids.as_ref().len();
        tokens <= most
    });
    fitting.count()
}

fn shuffle(sequences: &mut [&[u32]], seed: u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(EncodeCx::for_tensor(seed, "order of sequences").seed);
    for last in (1..sequences.len()).rev() {
        let other = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
        sequences.swap(last, other as usize);
    }
}
