//! Draws sequences from texts.

use codec_api::EncodeCx;
use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};
use runtime::Config;

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
pub(super) fn sequences(config: &Config, texts: &[Text], protocol: Protocol) -> Result<[Vec<Vec<u32>>; 2]> {
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
