//! The smallest magnitude that a share of the whole tensor keeps, found in passes over its chunks.
//!
//! The first pass counts the magnitudes by their upper 15 bits, and the second those with the
//! deciding upper bits by their lower 16 bits. The third counts in each row the weights of exactly
//! this magnitude, because the rule may keep only the first of them. If the rule keeps all weights
//! from some magnitude on, the remaining passes are skipped.

use codec_api::{CodecError, EncodeCx, Pass, Result, Statistics, Surveyed, TensorSpec, TensorView};

use super::select::{keep, magnitude};
use super::{Prune, Rule};

/// Bits of a magnitude.
const BITS: u32 = 31;

/// The most bits that a pass finds.
const DIGIT: u32 = 16;

/// For each of these weights, in rows of `columns`, whether the tensor with these statistics keeps
/// it.
pub(super) fn select(found: &Statistics, weights: &[f32], columns: usize) -> Result<Vec<bool>> {
    let least = if weights.is_empty() { 0 } else { Search::read(&found.scalars)?.low };
    let mut kept = Vec::with_capacity(weights.len());
    for (i, row) in weights.chunks(columns.max(1)).enumerate() {
        let ties = found.rows.get(i).map_or(usize::MAX, |ties| *ties as usize);
        keep(row, least, ties, &mut kept);
    }
    Ok(kept)
}

/// Scratch memory of a survey: all counts, those that are not 0, and twice the ties of each row.
pub(super) fn scratch(spec: &TensorSpec) -> u64 {
    ((8 << DIGIT) + 48 * spec.elements().min(1 << DIGIT) + 16 * spec.matrix().0) as u64
}

/// The passes for the rule with the density of the whole tensor. Statistics begin with the
/// `Search`. Those of a chunk go on with pairs of a digit and its count; or they have the ties of
/// each row. Those of the tensor have the ties that each row keeps, or none for rows if it keeps
/// all.
impl Surveyed for Prune {
    fn observe(&self, chunk: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics> {
        cx.cancel.check()?;
        let search = cx.shared.map_or(Ok(Search::ALL), |shared| Search::read(shared.scalars))?;
        let weights = if cx.shared.is_none() { chunk.to_finite_f32()? } else { chunk.to_f32()? };
        let mut scalars = search.scalars();
        if search.bits > 0 {
            scalars.extend(search.counts(&weights));
            return Ok(Statistics::new(scalars, Vec::new()));
        }
        let ties = |row: &[f32]| row.iter().filter(|w| magnitude(**w) == search.low).count() as f64;
        let rows = weights.chunks(chunk.spec().matrix().1.max(1)).map(ties).collect();
        Ok(Statistics::new(scalars, rows))
    }

    fn combine(&self, pass: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        let Some(first) = chunks.first() else { return Ok(Pass::Last(Statistics::default())) };
        let mut search = Search::read(&first.scalars)?;
        if search.bits > 0 {
            let mut counts = vec![0.0; 1 << DIGIT];
            let counted = |chunk: &Statistics| chunk.scalars.get(Search::LEN..).unwrap_or_default().to_vec();
            for [digit, count] in chunks.iter().flat_map(|chunk| counted(chunk).as_chunks().0.to_vec()) {
                *counts.get_mut(digit as usize).ok_or_else(foreign)? += count;
            }
            if pass == 0
                && let Rule::Density { density, .. } = self.rule
            {
                search.wanted = (density * counts.iter().sum::<f64>()).ceil();
            }
            return Ok(search.narrowed(&counts));
        }
        let mut rows = chunks.iter().map(|chunk| &*chunk.rows).collect::<Vec<_>>().concat();
        for ties in &mut rows {
            *ties = ties.min(search.wanted);
            search.wanted -= *ties;
        }
        Ok(Pass::Last(Statistics::new(search.scalars(), rows)))
    }

    fn chunks_equal_whole(&self) -> bool {
        // A lossy inner codec may form other groups of weights in chunks.
        self.inner.as_lossless().is_some()
    }
}

fn foreign() -> CodecError {
    CodecError::Usage("the shared statistics are not those of `sparse.prune`".to_owned())
}

/// The magnitudes that may be the smallest kept one.
#[derive(Clone, Copy)]
struct Search {
    /// The smallest of them.
    low: u32,
    /// Their number is two to the power of this.
    bits: u32,
    /// How many of the weights with these magnitudes are kept; known after the first pass.
    wanted: f64,
}

impl Search {
    /// Number of scalars.
    const LEN: usize = 3;

    /// Before the first pass it may be any magnitude.
    const ALL: Self = Self { low: 0, bits: BITS, wanted: 0.0 };

    /// Reads the result of the earlier passes.
    fn read(scalars: &[f64]) -> Result<Self> {
        match *scalars {
            [low, bits, wanted, ..] if [0, DIGIT, BITS].contains(&(bits as u32)) => {
                Ok(Self { low: low as u32, bits: bits as u32, wanted })
            }
            _ => Err(foreign()),
        }
    }

    fn scalars(self) -> Vec<f64> {
        vec![self.low.into(), self.bits.into(), self.wanted]
    }

    /// The bits below this pass's digit.
    fn rest(self) -> u32 {
        if self.bits > DIGIT { DIGIT } else { 0 }
    }

    /// Pairs of a digit and its count, if it is not 0.
    fn counts(self, weights: &[f32]) -> impl Iterator<Item = f64> + use<> {
        let rest = self.rest();
        let mut counts = vec![0.0; 1 << (self.bits - rest)];
        for weight in weights {
            let above = magnitude(*weight).wrapping_sub(self.low);
            if above >> self.bits == 0 {
                counts[(above >> rest) as usize] += 1.0;
            }
        }
        counts.into_iter().enumerate().filter(|(_, n)| *n > 0.0).flat_map(|(digit, n)| [digit as f64, n])
    }

    /// The magnitudes with the deciding digit.
    fn narrowed(mut self, counts: &[f64]) -> Pass {
        let (rest, mut digit) = (self.rest(), counts.len() - 1);
        while digit > 0 && counts[digit] < self.wanted {
            self.wanted -= counts[digit];
            digit -= 1;
        }
        (self.low, self.bits) = (self.low + ((digit as u32) << rest), rest);
        let found = Statistics::new(self.scalars(), Vec::new());
        if counts[digit] == self.wanted { Pass::Last(found) } else { Pass::Next(found) }
    }
}
