//! The task arithmetic family: differences from the base are sparsified and rescaled, weighted,
//! added where their signs agree, divided, and added to the base.

use std::ops::Range;

use super::{Sparsify, Task, TaskModel};
use crate::blocks::{Inputs, Scratch, magnitude, scale, tiles};
use crate::error::{Error, Result};
use crate::select::{Lanes, Largest, Ties, largest};

/// A task that knows its thresholds and scales.
#[derive(Debug)]
pub(super) struct Merged {
    masks: Vec<Mask>,
    models: Vec<TaskModel>,
    /// The factor that restores the L1 norm of each model's differences.
    scales: Vec<f32>,
    consensus: bool,
    normalize: bool,
    lambda: f32,
    /// Elements of a row.
    width: usize,
}

/// Which differences of a model stay.
#[derive(Clone, Copy, Debug)]
enum Mask {
    All,
    None,
    /// Those of the largest magnitudes that are not among the very largest.
    Between(Largest, Largest),
    /// By the draws of the model.
    Random,
    /// By the draws of the model, with probabilities by rank.
    Ranked,
    /// The caller's.
    Given,
}

/// The differences of all models.
struct Differences<'a>(&'a Inputs<'a>);

impl Lanes for Differences<'_> {
    fn count(&self) -> usize {
        self.0.models.len()
    }

    fn fill<'s>(&self, range: &Range<usize>, scratch: &'s mut Scratch) -> Result<&'s mut [Vec<f32>]> {
        let buffers = scratch.take(self.count() + 1, range.len());
        self.0.read(range.start, buffers)?;
        Ok(buffers)
    }
}

impl Merged {
    pub(super) fn new(task: &Task, inputs: &Inputs<'_>) -> Result<Self> {
        let shape = inputs.shape();
        let mut merged = Self {
            masks: masks(task, inputs)?,
            models: task.models.clone(),
            scales: vec![1.0; task.models.len()],
            consensus: task.consensus,
            normalize: task.normalize,
            lambda: task.lambda as f32,
            width: shape.last().copied().unwrap_or(1),
        };
        if task.rescale {
            merged.scales = merged.norms(inputs)?;
        }
        Ok(merged)
    }

    /// `Σ|d|` before the mask, divided by that behind it.
    fn norms(&self, inputs: &Inputs<'_>) -> Result<Vec<f32>> {
        let count = self.models.len();
        if self.masks.iter().all(|mask| matches!(mask, Mask::All | Mask::None)) {
            return Ok(vec![1.0; count]);
        }
        let sums = inputs.per_block(|range, scratch| {
            let mut sums = vec![[0.0; 2]; count];
            let ranks = self.ranked(inputs, &range)?;
            for tile in tiles(range.clone()) {
                let values = Differences(inputs).fill(&tile, scratch)?;
                for (i, sums) in sums.iter_mut().enumerate() {
                    sums[0] += magnitude(&values[i]);
                    self.mask(i, &tile, &ranks, range.start, &mut values[i]);
                    sums[1] += magnitude(&values[i]);
                }
            }
            Ok(sums)
        })?;
        let mut all = vec![[0.0; 2]; count];
        for sums in sums {
            for (all, sum) in all.iter_mut().zip(sums) {
                all[0] += sum[0];
                all[1] += sum[1];
            }
        }
        let scale =
            |[before, after]: [f64; 2]| if before < 1e-7 || after < 1e-7 { 1.0 } else { (before / after) as f32 };
        Ok(all.into_iter().map(scale).collect())
    }

    /// Computes a range of elements.
    pub(super) fn apply(
        &self,
        inputs: &Inputs<'_>,
        range: Range<usize>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let ranks = self.ranked(inputs, &range)?;
        for tile in tiles(range.clone()) {
            let out = &mut out[tile.start - range.start..tile.end - range.start];
            let count = self.models.len();
            let buffers = scratch.take(count + 4, tile.len());
            inputs.read(tile.start, buffers)?;
            for (i, d) in buffers[..count].iter_mut().enumerate() {
                self.mask(i, &tile, &ranks, range.start, d);
                if self.scales[i] != 1.0 {
                    scale(self.scales[i], d);
                }
                scale(self.models[i].weight as f32, d);
            }
            let (differences, rest) = buffers.split_at_mut(count);
            let [base, sum, elected, weights] = rest else { return Ok(()) };
            self.add_up(differences, [&mut *sum, elected, weights]);
            add_to_base(base, sum, self.lambda, out);
        }
        Ok(())
    }

    /// The sum of the weighted differences, divided as the method wants.
    fn add_up(&self, differences: &[Vec<f32>], [sum, elected, weights]: [&mut [f32]; 3]) {
        sum.fill(0.0);
        for d in differences {
            add(d, sum);
        }
        if !self.consensus {
            let all: f64 = self.models.iter().map(|model| model.weight).sum();
            if self.normalize && all.abs() >= 1e-8 {
                divide(sum, all as f32);
            }
            return;
        }
        elected.copy_from_slice(sum);
        elect(elected);
        sum.fill(0.0);
        weights.fill(0.0);
        for (d, model) in differences.iter().zip(&self.models) {
            add_elected(d, elected, model.weight as f32, sum, weights);
        }
        if self.normalize {
            divide_by(sum, weights);
        }
    }

    /// Sets differences of a tile to zero. `ranks` begin at the element `first`.
    fn mask(&self, model: usize, tile: &Range<usize>, ranks: &[Vec<bool>], first: usize, d: &mut [f32]) {
        let TaskModel { draws, density, mask, .. } = &self.models[model];
        match (&self.masks[model], mask) {
            (Mask::All, _) | (Mask::Given, None) => {}
            (Mask::None, _) => d.fill(0.0),
            (Mask::Between(most, least), _) => between(*most, *least, tile.start, d),
            (Mask::Given, Some(mask)) => keep(&mask[tile.clone()], d),
            (Mask::Random, _) => {
                let drawn =
                    |(i, d): (usize, &mut f32)| *d = if draws.keeps(tile.start + i, *density) { *d } else { 0.0 };
                d.iter_mut().enumerate().for_each(drawn);
            }
            (Mask::Ranked, _) => keep(&ranks[model][tile.start - first..tile.end - first], d),
        }
    }

    /// For models with probabilities by rank, which elements of the range stay.
    fn ranked(&self, inputs: &Inputs<'_>, range: &Range<usize>) -> Result<Vec<Vec<bool>>> {
        let mut kept = vec![Vec::new(); self.models.len()];
        if !self.masks.iter().any(|mask| matches!(mask, Mask::Ranked)) || range.is_empty() {
            return Ok(kept);
        }
        let (width, mut scratch, mut order) = (self.width, Scratch::default(), Vec::new());
        for row in range.start / width..range.end.div_ceil(width) {
            let values = Differences(inputs).fill(&(row * width..(row + 1) * width), &mut scratch)?;
            let part = range.start.max(row * width)..range.end.min((row + 1) * width);
            for (i, kept) in kept.iter_mut().enumerate().filter(|(i, _)| matches!(self.masks[*i], Mask::Ranked)) {
                let of_row = draw_row(&self.models[i], row * width, &values[i], &mut order);
                kept.extend(&of_row[part.start - row * width..part.end - row * width]);
            }
        }
        Ok(kept)
    }
}

/// Which elements of a row stay: the probability grows from `density − ε` for the smallest
/// magnitude to `density + ε` for the largest.
fn draw_row(model: &TaskModel, first: usize, row: &[f32], order: &mut Vec<u64>) -> Vec<bool> {
    // Magnitude above, element below: equal magnitudes in the order of the elements.
    order.clear();
    order.extend(row.iter().enumerate().map(|(i, d)| u64::from(d.abs().to_bits()) << 32 | i as u64));
    order.sort_unstable();
    let mut kept = vec![false; row.len()];
    let least = model.density - model.epsilon;
    for (rank, key) in order.iter().enumerate() {
        let element = (key & 0xffff_ffff) as usize;
        let above = rank as f64 / (row.len().max(2) - 1) as f64;
        kept[element] = model.draws.keeps(first + element, least + above * 2.0 * model.epsilon);
    }
    kept
}

/// The mask of each model; thresholds come from passes over the tensors.
fn masks(task: &Task, inputs: &Inputs<'_>) -> Result<Vec<Mask>> {
    let elements = inputs.elements();
    let mut masks: Vec<Mask> = task.models.iter().map(|model| simple(task.sparsify, model)).collect();
    for (model, mask) in task.models.iter().zip(&masks) {
        let (low, high) = (model.density - model.epsilon, model.density + model.epsilon);
        if matches!(mask, Mask::Ranked) && (low <= 0.0 || high >= 1.0) {
            let (density, epsilon) = (model.density, model.epsilon);
            return Err(Error::Method(format!("density {density} ± epsilon {epsilon} must be above 0 and below 1")));
        }
        if model.mask.as_ref().is_some_and(|mask| mask.len() != elements) {
            return Err(Error::Method(format!("a mask of {elements} elements is wanted")));
        }
    }
    let counts: Vec<[usize; 2]> = task.models.iter().map(|model| interval(task.sparsify, model, elements)).collect();
    // As a stable sort in ascending order has it: the first of equal magnitudes are removed first.
    let ties = if task.sparsify == Sparsify::Outliers { Ties::Last } else { Ties::First };
    for side in 0..2 {
        let wanted: Vec<usize> = masks
            .iter()
            .zip(&counts)
            .map(|(mask, counts)| if matches!(mask, Mask::Between(..)) { counts[side] } else { 0 })
            .collect();
        if wanted.iter().all(|k| *k == 0) {
            continue;
        }
        for (mask, found) in masks.iter_mut().zip(largest(inputs, &Differences(inputs), &wanted, ties)?) {
            if let Mask::Between(most, least) = mask {
                *(if side == 0 { most } else { least }) = found;
            }
        }
    }
    Ok(masks)
}

/// The masks that need no pass; [`Mask::Between`] without its bounds.
fn simple(sparsify: Sparsify, model: &TaskModel) -> Mask {
    match sparsify {
        Sparsify::Dense => Mask::All,
        _ if model.density >= 1.0 && sparsify != Sparsify::Outliers && sparsify != Sparsify::Ranked => Mask::All,
        _ if model.density <= 0.0 && sparsify != Sparsify::Ranked => Mask::None,
        Sparsify::Magnitude | Sparsify::Outliers => Mask::Between(Largest::NONE, Largest::NONE),
        _ if model.mask.is_some() => Mask::Given,
        Sparsify::Random => Mask::Random,
        Sparsify::Ranked => Mask::Ranked,
    }
}

/// How many of the largest magnitudes are above those that stay, and how many to their end.
fn interval(sparsify: Sparsify, model: &TaskModel, elements: usize) -> [usize; 2] {
    let part = |share: f64| ((share * elements as f64) as usize).min(elements);
    let keep = part(model.density);
    if sparsify != Sparsify::Outliers {
        return [0, keep.max(1).min(elements)];
    }
    let below = elements.saturating_sub(keep + part(model.gamma));
    [elements - below - keep, elements - below]
}

/// Keeps the largest magnitudes of `least` without those of `most`.
fn between(most: Largest, least: Largest, start: usize, d: &mut [f32]) {
    let mut done = 0;
    while done < d.len() {
        let at = start + done;
        let cut = |largest: Largest| if largest.cut > at { largest.cut - start } else { d.len() };
        let end = d.len().min(cut(most)).min(cut(least));
        keep_between(least.least(at), most.least(at), &mut d[done..end]);
        done = end;
    }
}

simd::kernel! {
    /// Keeps magnitudes with bits of at least `low` and below `high`.
    fn keep_between<'a>(_simd, low: u32, high: u32, d: &'a mut [f32]) {
        for d in d {
            let bits = d.to_bits() & 0x7fff_ffff;
            *d = if bits >= low && bits < high { *d } else { 0.0 };
        }
    }
}

fn keep(mask: &[bool], d: &mut [f32]) {
    d.iter_mut().zip(mask).for_each(|(d, keep)| *d = if *keep { *d } else { 0.0 });
}

simd::kernel! {
    fn add<'a>(_simd, x: &'a [f32], sum: &'a mut [f32]) {
        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
    }
}

simd::kernel! {
    fn divide<'a>(_simd, sum: &'a mut [f32], by: f32) {
        for sum in sum {
            *sum /= by;
        }
    }
}

simd::kernel! {
    /// The elected sign: minus below zero, else plus.
    fn elect<'a>(_simd, sums: &'a mut [f32]) {
        for sum in sums {
            *sum = if *sum >= 0.0 { 1.0 } else { -1.0 };
        }
    }
}

simd::kernel! {
    /// Adds differences with the elected sign, and the weights of their model. Zeros do not count.
    fn add_elected<'a>(_simd, d: &'a [f32], elected: &'a [f32], weight: f32, sum: &'a mut [f32], weights: &'a mut [f32]) {
        for (((d, elected), sum), weights) in d.iter().zip(elected).zip(sum).zip(weights) {
            let same = d * elected > 0.0;
            *sum += if same { *d } else { 0.0 };
            *weights += if same { weight } else { 0.0 };
        }
    }
}

simd::kernel! {
    fn divide_by<'a>(_simd, sum: &'a mut [f32], weights: &'a [f32]) {
        for (sum, weight) in sum.iter_mut().zip(weights) {
            *sum /= if *weight == 0.0 { 1.0 } else { *weight };
        }
    }
}

simd::kernel! {
    fn add_to_base<'a>(_simd, base: &'a [f32], sum: &'a [f32], lambda: f32, out: &'a mut [f32]) {
        for ((out, base), sum) in out.iter_mut().zip(base).zip(sum) {
            *out = base + sum * lambda;
        }
    }
}
