//! The search for the best code of every block. It is exact over the given seeds.

use codec_api::{Cancel, Result};
use simd::LANES;

use crate::block::{Code, EXPONENTS, MAX_BLOCK, with_rank};
use crate::fit::{Basis, Best, Fitter, Target};
use crate::lfsr::Lfsr;
use crate::scan::{Blocks, GROUP, Lanes, Survivor, TILE, VECTORS, Walk, look, walk};
use crate::tables::{Alone, Run, run};
use crate::ticks::Ticks;

/// Number of seeds whose tables are in memory at once.
pub(crate) const BATCH: usize = 1 << 16;

/// The seeds to try.
#[derive(Clone, Debug)]
pub(crate) enum Seeds {
    /// All seeds, in the register's order.
    All,
    /// These seeds.
    Some(Vec<u32>),
}

/// The method that finds the best seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Fits only seeds whose basis can explain enough of a block.
    Pruned,
    /// Fits every seed: the reference for the search.
    BruteForce,
}

/// A search for the codes of one layer.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub(crate) fitter: &'a Fitter,
    pub(crate) lfsr: &'a Lfsr,
    pub(crate) seeds: &'a Seeds,
    pub(crate) method: Method,
    pub(crate) cancel: &'a Cancel,
    pub(crate) ticks: &'a Ticks<'a>,
}

impl Search<'_> {
    /// The best codes of blocks whose weights have this importance.
    ///
    /// # Errors
    /// If the encode is cancelled.
    pub(crate) fn best(&self, blocks: &[&[f32]], importance: [f64; MAX_BLOCK]) -> Result<Vec<Code>> {
        with_rank!(self.fitter.shape.rank, P => self.best_at::<P>(blocks, importance))
    }

    fn best_at<const P: usize>(&self, blocks: &[&[f32]], importance: [f64; MAX_BLOCK]) -> Result<Vec<Code>> {
        // A result must not be worse than zeros.
        let mut best: Vec<Best> = blocks
            .iter()
            .map(|w| Best { error: self.fitter.target(w, importance).energy, code: Some(Code::ZERO) })
            .collect();
        if self.method == Method::BruteForce {
            self.try_every_seed::<P>(blocks, importance, &mut best)?;
        } else {
            // Blocks of zeros are done, and repetitions get the code of the block before them.
            let repeats = |place: usize| place > 0 && blocks[place] == blocks[place - 1];
            let is_open = |place: &usize| best[*place].error > 0.0 && !repeats(*place);
            let (open, done): (Vec<usize>, _) = (0..blocks.len()).partition(is_open);
            self.ticks.tick(weights(blocks, &done));
            let batches = if open.is_empty() { 0 } else { self.seed_count().div_ceil(BATCH) };
            let mut first = 1;
            for batch in 0..batches {
                let mut pass = Pass::<P>::new(self, importance, batch, &mut first);
                pass.run(blocks, open.clone(), &mut best, batch + 1 == batches)?;
            }
            for place in (1..blocks.len()).filter(|place| repeats(*place)) {
                best[place] = best[place - 1];
            }
        }
        Ok(best.into_iter().map(|best| best.code.unwrap_or(Code::ZERO)).collect())
    }

    /// Number of seeds tried.
    fn seed_count(&self) -> usize {
        match self.seeds {
            Seeds::All => self.fitter.shape.seeds() as usize,
            Seeds::Some(seeds) => seeds.len(),
        }
    }

    fn try_every_seed<const P: usize>(
        &self,
        blocks: &[&[f32]],
        importance: [f64; MAX_BLOCK],
        best: &mut [Best],
    ) -> Result<()> {
        for (weights, best) in blocks.iter().zip(best) {
            self.cancel.check()?;
            self.ticks.tick(weights.len());
            let target = self.fitter.target(weights, importance);
            if target.energy == 0.0 {
                continue;
            }
            let mut try_seed = |seed| self.fitter.fit(seed, &self.basis::<P>(seed, &importance), &target, best);
            match self.seeds {
                Seeds::All => (1..=self.fitter.shape.seeds()).for_each(try_seed),
                Seeds::Some(seeds) => seeds.iter().for_each(|seed| try_seed(*seed)),
            }
        }
        Ok(())
    }

    /// The basis of a seed for blocks whose weights have this importance.
    #[inline(always)]
    fn basis<const P: usize>(&self, seed: u32, importance: &[f64; MAX_BLOCK]) -> Basis<P> {
        Basis::new(self.fitter.shape, self.lfsr.word(seed), importance)
    }

    /// An error, as a share of a block's energy, that most blocks stay below: a few times the error
    /// of Gaussian weights at this number of bits per weight. It affects the speed of the search,
    /// but not its result.
    fn likely_error(&self) -> f64 {
        let shape = self.fitter.shape;
        let codes = (self.seed_count() * EXPONENTS) as f64;
        let bits = f64::from(shape.mantissa_bits) * shape.rank as f64 + codes.log2();
        (10.0 * (-2.0 * bits / shape.weights as f64).exp2()).min(1.0)
    }
}

/// Number of weights of some blocks.
fn weights(blocks: &[&[f32]], places: &[usize]) -> usize {
    places.iter().map(|place| blocks[*place].len()).sum()
}

/// A pass over all blocks with the tables of a batch of seeds.
struct Pass<'a, const P: usize> {
    search: &'a Search<'a>,
    importance: [f64; MAX_BLOCK],
    run: Option<Run>,
    alone: Alone,
    walk: Walk,
    survivors: Vec<Survivor>,
}

impl<'a, const P: usize> Pass<'a, P> {
    /// Makes the tables. `first` is the first seed of a walk through all seeds, and afterwards the
    /// seed to continue with.
    fn new(search: &'a Search<'a>, importance: [f64; MAX_BLOCK], batch: usize, first: &mut u32) -> Self {
        let shape = search.fitter.shape;
        let (run, alone) = match search.seeds {
            Seeds::All => {
                let len = BATCH.min(search.seed_count() - batch * BATCH);
                let (table, alone) = run::<P>(search.lfsr, shape, &importance, *first, len);
                *first = table.seeds.last().map_or(1, |seed| search.lfsr.next(*seed));
                (Some(table), alone)
            }
            Seeds::Some(seeds) => {
                let seeds = seeds.iter().copied().skip(batch * BATCH).take(BATCH);
                (None, Alone::new::<P>(search.lfsr, shape, &importance, seeds))
            }
        };
        Self { search, importance, run, alone, walk: Walk::new(), survivors: Vec::with_capacity(TILE) }
    }

    /// Improves all codes with those of this batch. The first scan is fast because it guesses a low
    /// bound on the error. Blocks without a code below the bound are scanned again with a higher
    /// one, so the guess affects the time but not the result.
    fn run(&mut self, blocks: &[&[f32]], mut places: Vec<usize>, best: &mut [Best], last: bool) -> Result<()> {
        let guess = self.search.likely_error();
        let (mut limit, mut highest) = (guess, guess);
        let mut first = true;
        while !places.is_empty() {
            let mut again = Vec::new();
            for group in places.chunks(GROUP) {
                self.search.cancel.check()?;
                let left = again.len();
                let largest = self.scan(blocks, group, limit, best, &mut again);
                if first {
                    limit = (0.5 * (limit + HEADROOM * largest)).clamp(0.1 * guess, 1.0);
                    highest = limit.max(highest);
                }
                if last {
                    self.search.ticks.tick(weights(blocks, group) - weights(blocks, &again[left..]));
                }
            }
            // Above every limit at which these blocks failed.
            highest = (1.7 * highest).min(1.0);
            (limit, places, first) = (highest, again, false);
        }
        Ok(())
    }

    /// Scans at most [`GROUP`] blocks, none of them zeros, for codes with an error of at most
    /// `limit`. Adds blocks that may have a better code above `limit` to `again`. Returns the
    /// largest error found.
    fn scan(
        &mut self,
        blocks: &[&[f32]],
        places: &[usize],
        limit: f64,
        best: &mut [Best],
        again: &mut Vec<usize>,
    ) -> f64 {
        let targets: Vec<Target> =
            places.iter().map(|p| self.search.fitter.target(blocks[*p], self.importance)).collect();
        let mut trials: Vec<Best> = targets
            .iter()
            .zip(places)
            .map(|(target, place)| Best { error: best[*place].error.min(limit * target.energy), code: None })
            .collect();
        self.scan_targets(&targets, &mut trials);
        let mut largest = 0.0f64;
        for ((trial, place), target) in trials.iter().zip(places).zip(&targets) {
            if let Some(code) = trial.code {
                best[*place].offer(trial.error, code);
            } else if best[*place].error > trial.error {
                again.push(*place);
            }
            largest = largest.max(trial.error / target.energy);
        }
        largest
    }

    fn scan_targets(&mut self, targets: &[Target], best: &mut [Best]) {
        let mut lanes = Lanes::default();
        let mut need: Blocks = [[f32::INFINITY; LANES]; VECTORS];
        for (i, (target, best)) in targets.iter().zip(best.iter()).enumerate() {
            lanes.set(i, target);
            need[i / LANES][i % LANES] = needed(target, best);
        }
        let shape = self.search.fitter.shape;
        if let Some(run) = &self.run {
            self.walk.start(shape, run, &lanes);
            for start in (0..run.seeds.len()).step_by(TILE) {
                walk(shape, run, start, &mut self.walk, &need, &mut self.survivors);
                settle::<P>(self.search, &run.seeds, &mut self.survivors, targets, best, &mut need);
            }
        }
        for start in (0..self.alone.seeds.len()).step_by(TILE) {
            look(shape, &self.alone, start, &lanes, &need, &mut self.survivors);
            settle::<P>(self.search, &self.alone.seeds, &mut self.survivors, targets, best, &mut need);
        }
    }
}

/// Factor by which the errors of later blocks may exceed the largest so far before a second scan is
/// needed.
const HEADROOM: f64 = 1.2;

/// Fits the survivors of a tile.
fn settle<const P: usize>(
    search: &Search<'_>,
    seeds: &[u32],
    survivors: &mut Vec<Survivor>,
    targets: &[Target],
    best: &mut [Best],
    need: &mut Blocks,
) {
    for survivor in survivors.drain(..) {
        let seed = seeds[survivor.place];
        let basis = search.basis::<P>(seed, &targets[0].importance);
        let mut left = survivor.blocks;
        while left != 0 {
            let i = left.trailing_zeros() as usize;
            left &= left - 1;
            search.fitter.fit(seed, &basis, &targets[i], &mut best[i]);
            need[i / LANES][i % LANES] = needed(&targets[i], &best[i]);
        }
    }
}

/// The share of a block's energy that a basis must explain to be worth a fit.
fn needed(target: &Target, best: &Best) -> f32 {
    ((1.0 - best.error / target.energy) as f32).next_down()
}
