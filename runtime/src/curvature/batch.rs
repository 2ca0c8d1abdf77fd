//! The tokens of a pass.

use std::ops::Range;

use codec_api::EncodeCx;
use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::config::Config;
use crate::error::{Error, Result};

/// Sequences of tokens that run together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The sequences; each begins at position 0.
    pub sequences: &'a [&'a [u32]],
    /// Number of the first sequence among all of a calibration.
    pub first: usize,
}

impl Batch<'_> {
    /// Number of all tokens.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(|ids| ids.len()).sum()
    }

    /// Each token with its position.
    pub fn ids(&self) -> impl Iterator<Item = (u32, usize)> {
        self.sequences.iter().flat_map(|ids| ids.iter().copied().zip(0..))
    }

    /// The tokens of each sequence among all of the batch.
    pub(super) fn ranges(&self) -> Vec<Range<usize>> {
        let mut first = 0;
        let range = |ids: &&[u32]| {
            let range = first..first + ids.len();
            first = range.end;
            range
        };
        self.sequences.iter().map(range).collect()
    }

    pub(super) fn check(&self, config: &Config) -> Result<()> {
        let longest = self.sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
        if longest > config.context {
            return Err(Error::Usage(format!("a sequence of {longest} tokens; the model allows {}", config.context)));
        }
        match self.ids().find(|(id, _)| *id as usize >= config.vocabulary) {
            Some((id, _)) => {
                let known = config.vocabulary;
                Err(Error::Usage(format!("token {id} is not one of the model's {known}: is it the right tokenizer?")))
            }
            None => Ok(()),
        }
    }

    /// A number from 0 to 1 for each token, which draws its label. It depends on the seed, the
    /// number of the sequence and the position alone.
    pub(super) fn draws(&self, seed: u64) -> Vec<f64> {
        let mut draws = Vec::with_capacity(self.tokens());
        for (number, ids) in (self.first..).zip(self.sequences) {
            let seed = EncodeCx::for_tensor(seed, &format!("labels of sequence {number}")).seed;
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
            draws.extend(ids.iter().map(|_| (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64));
        }
        draws
    }
}
