//! The k-th largest magnitude of a tensor, exactly, in passes over its blocks: a histogram of the
//! high bits of `|x|`, one of the low bits where the high bits are those of the threshold, and a
//! count of the elements at the threshold where not all of them belong to the k largest.

use std::ops::Range;

use rayon::prelude::*;

use crate::blocks::{BLOCK, Inputs, Scratch, tiles};
use crate::error::Result;

/// Bits of the second histogram; the first one has the other 16 of the 31 bits of a magnitude.
const LOW: u32 = 15;

/// The largest magnitudes: those above the threshold, and some at the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Largest {
    /// The bits of the smallest of these magnitudes.
    threshold: u32,
    /// Where elements at the threshold begin or cease to belong to the largest.
    pub(crate) cut: usize,
    /// Which of them do: those before the cut, or those from there on.
    ties: Ties,
}

/// Which of equal magnitudes count as larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ties {
    /// The first ones.
    First,
    /// The last ones.
    Last,
}

impl Largest {
    /// All elements.
    pub(crate) const ALL: Self = Self { threshold: 0, cut: usize::MAX, ties: Ties::First };
    /// No element.
    pub(crate) const NONE: Self = Self { threshold: u32::MAX, cut: 0, ties: Ties::First };

    /// The least bits of a magnitude that belongs to the largest, for elements from here on, up to
    /// [`Self::cut`] if that lies behind.
    pub(crate) fn least(self, element: usize) -> u32 {
        let belongs = (element < self.cut) == (self.ties == Ties::First);
        if belongs { self.threshold } else { self.threshold.saturating_add(1) }
    }
}

/// Values that are computed tile by tile: several lanes for each element.
pub(crate) trait Lanes: Sync {
    /// The lanes.
    fn count(&self) -> usize;

    /// Computes the values of these elements. They are in the first buffers; there may be more.
    ///
    /// # Errors
    /// Those of the sources.
    fn fill<'s>(&self, range: &Range<usize>, scratch: &'s mut Scratch) -> Result<&'s mut [Vec<f32>]>;
}

/// For each lane, the `counts[lane]` largest magnitudes.
///
/// # Errors
/// Those of the lanes; cancellation.
pub(crate) fn largest(inputs: &Inputs<'_>, lanes: &dyn Lanes, counts: &[usize], ties: Ties) -> Result<Vec<Largest>> {
    let elements = inputs.elements();
    let mut found: Vec<Largest> =
        counts.iter().map(|k| if *k >= elements { Largest::ALL } else { Largest::NONE }).collect();
    let wanted: Vec<usize> = (0..counts.len()).filter(|i| counts[*i] > 0 && counts[*i] < elements).collect();
    if wanted.is_empty() {
        return Ok(found);
    }
    let high = histograms(inputs, lanes, &wanted, 1 << (31 - LOW), |_, bits| Some(bits >> LOW))?;
    let high: Vec<(u32, u64)> =
        wanted.iter().zip(&high).map(|(lane, bins)| place(bins, counts[*lane] as u64)).collect();
    let inside = |slot: usize, bits: u32| (bits >> LOW == high[slot].0).then_some(bits & ((1 << LOW) - 1));
    let low = histograms(inputs, lanes, &wanted, 1 << LOW, inside)?;
    let mut split = Vec::new();
    for (slot, lane) in wanted.iter().enumerate() {
        let (bin, left) = place(&low[slot], high[slot].1);
        found[*lane] = Largest { threshold: high[slot].0 << LOW | bin, cut: usize::MAX, ties: Ties::First };
        let equal = low[slot][bin as usize];
        if left < equal {
            found[*lane].ties = ties;
            split.push((*lane, if ties == Ties::First { left } else { equal - left }));
        }
    }
    cut(inputs, lanes, &split, &mut found)?;
    Ok(found)
}

/// The bin of the k-th largest, and how many of it are among the k largest.
fn place(bins: &[u64], k: u64) -> (u32, u64) {
    let mut left = k;
    for (bin, count) in bins.iter().enumerate().rev() {
        if left <= *count {
            return (bin as u32, left);
        }
        left -= count;
    }
    (0, left)
}

fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// A histogram of each wanted lane. Counts of parts are added: their order does not matter.
fn histograms(
    inputs: &Inputs<'_>,
    lanes: &dyn Lanes,
    wanted: &[usize],
    bins: usize,
    bin: impl Fn(usize, u32) -> Option<u32> + Sync,
) -> Result<Vec<Vec<u64>>> {
    let blocks = inputs.elements().div_ceil(BLOCK);
    // The counts of a part are below 2³².
    let part = blocks.div_ceil(2 * rayon::current_num_threads()).clamp(1, u32::MAX as usize / BLOCK);
    let count = |part: Range<usize>| -> Result<Vec<Vec<u32>>> {
        let (mut counts, mut scratch) = (vec![vec![0u32; bins]; wanted.len()], Scratch::default());
        for block in part {
            inputs.cancel.check()?;
            let range = block * BLOCK..inputs.elements().min((block + 1) * BLOCK);
            for tile in tiles(range.clone()) {
                let values = lanes.fill(&tile, &mut scratch)?;
                for (slot, (counts, lane)) in counts.iter_mut().zip(wanted).enumerate() {
                    for x in &values[*lane] {
                        if let Some(bin) = bin(slot, magnitude(*x)) {
                            counts[bin as usize] += 1;
                        }
                    }
                }
            }
            inputs.release(&range);
        }
        Ok(counts)
    };
    let parts = (0..blocks.div_ceil(part)).into_par_iter().map(|i| count(i * part..blocks.min((i + 1) * part)));
    let zero = || vec![vec![0u64; bins]; wanted.len()];
    let add = |mut sum: Vec<Vec<u64>>, counts: Vec<Vec<u32>>| {
        for (sum, counts) in sum.iter_mut().zip(counts) {
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(count));
        }
        sum
    };
    let counts: Vec<Vec<Vec<u32>>> = parts.collect::<Result<_>>()?;
    Ok(counts.into_iter().fold(zero(), add))
}

/// Finds the element at the threshold behind so many others of its magnitude.
fn cut(inputs: &Inputs<'_>, lanes: &dyn Lanes, split: &[(usize, u64)], found: &mut [Largest]) -> Result<()> {
    if split.is_empty() {
        return Ok(());
    }
    let thresholds: Vec<u32> = split.iter().map(|(lane, _)| found[*lane].threshold).collect();
    let equal = |x: &&f32, slot: usize| magnitude(**x) == thresholds[slot];
    let counts = inputs.per_block(|range, scratch| {
        let mut counts = vec![0u64; split.len()];
        for tile in tiles(range) {
            let values = lanes.fill(&tile, scratch)?;
            for (slot, (lane, _)) in split.iter().enumerate() {
                counts[slot] += values[*lane].iter().filter(|x| equal(x, slot)).count() as u64;
            }
        }
        Ok(counts)
    })?;
    let mut scratch = Scratch::default();
    for (slot, (lane, left)) in split.iter().enumerate() {
        let mut left = *left;
        let block = counts.iter().position(|counts| {
            let here = left < counts[slot];
            left -= if here { 0 } else { counts[slot] };
            here
        });
        // There is one: fewer than all are before the cut.
        let Some(block) = block else { continue };
        'block: for tile in tiles(block * BLOCK..inputs.elements().min((block + 1) * BLOCK)) {
            let values = &lanes.fill(&tile, &mut scratch)?[*lane];
            for (i, _) in values.iter().enumerate().filter(|(_, x)| equal(x, slot)) {
                if left == 0 {
                    found[*lane].cut = tile.start + i;
                    break 'block;
                }
                left -= 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use codec_api::{Bytes, Cancel, Dtype, TensorSpec};

    use super::*;
    use crate::rng::Draws;
    use crate::source::{Source, Stored};

    /// The values of the only model.
    struct Values<'a>(&'a Inputs<'a>);

    impl Lanes for Values<'_> {
        fn count(&self) -> usize {
            1
        }

        fn fill<'s>(&self, range: &Range<usize>, scratch: &'s mut Scratch) -> Result<&'s mut [Vec<f32>]> {
            let buffers = scratch.take(1, range.len());
            self.0.read(range.start, buffers)?;
            Ok(buffers)
        }
    }

    fn check(values: &[f32], ties: Ties, k: usize) {
        let spec = TensorSpec::new(Dtype::F32, [values.len()]).unwrap();
        let bytes = Bytes::from(bytemuck::cast_slice::<f32, u8>(values).to_vec());
        let source = Stored::new(spec, bytes).unwrap();
        let (models, cancel) = ([&source as &dyn Source], Cancel::new());
        let inputs = Inputs { models: &models, base: None, cancel: &cancel };
        let found = largest(&inputs, &Values(&inputs), &[k], ties).unwrap()[0];
        let mut order: Vec<usize> = (0..values.len()).collect();
        let place = |i: usize| if ties == Ties::First { i } else { values.len() - i };
        order.sort_by_key(|i| (std::cmp::Reverse(magnitude(values[*i])), place(*i)));
        let mut wanted = vec![false; values.len()];
        order[..k].iter().for_each(|i| wanted[*i] = true);
        let own: Vec<bool> = (0..values.len()).map(|i| magnitude(values[i]) >= found.least(i)).collect();
        assert!(own == wanted, "{k} of {}, {ties:?}", values.len());
    }

    #[test]
    fn the_largest_are_those_of_a_stable_sort() {
        let draws = Draws::new(3, 0, "x");
        // Few and many different magnitudes, in one block and in three.
        for (count, levels) in [(1000, 7), (1000, 1 << 20), (2 * BLOCK + 77, 50)] {
            let value = |i: usize| (f64::from(draws.at(i) % levels) - f64::from(levels / 3)) as f32 * 1e-5;
            let values: Vec<f32> = (0..count).map(value).collect();
            for ties in [Ties::First, Ties::Last] {
                for k in [0, 1, count / 3, count - 1, count].into_iter().filter(|k| count < BLOCK || *k == count / 3) {
                    check(&values, ties, k);
                }
            }
        }
        check(&[0.0; 100], Ties::First, 40);
        check(&[f32::INFINITY, -1.0, f32::NAN, 1.0], Ties::Last, 3);
    }
}
