//! Methods whose result is a combination `Σ cᵢ·Wᵢ` with coefficients for the whole tensor, for each
//! row or for each column.

use std::ops::Range;

use rayon::prelude::*;

use super::sphere::{Gram, karcher, multislerp, nuslerp, slerp};
use super::{Method, Vectors};
use crate::blocks::{Inputs, Scratch, TILE, add_scaled, dot, scale, tiles};
use crate::error::Result;

/// Coefficients of the models and, behind them, of the base.
#[derive(Debug)]
pub(super) struct Combination {
    vectors: Vectors,
    /// Elements of a row; for columns, of all of the columns' first elements.
    width: usize,
    /// For each vector, one for each input.
    coefficients: Vec<f32>,
    divisor: f32,
    /// Coefficients that each vector has.
    inputs: usize,
}

impl Combination {
    pub(super) fn new(method: &Method, inputs: &Inputs<'_>) -> Result<Self> {
        let models = inputs.models.len();
        let mut divisor = 1.0;
        let vectors = vectors(method);
        let coefficients = match method {
            Method::Linear { weights, normalize } => {
                divisor = if *normalize { weights.iter().sum::<f64>() as f32 } else { 1.0 };
                weights.iter().map(|w| *w as f32).collect()
            }
            Method::Passthrough { scale } => vec![scale.unwrap_or(1.0) as f32],
            _ => grams(vectors, inputs)?.iter().flat_map(|gram| of_gram(method, gram, inputs)).collect(),
        };
        let inputs_of_each = match method {
            Method::Linear { .. } | Method::Passthrough { .. } => models,
            _ => models + usize::from(inputs.base.is_some()),
        };
        Ok(Self { vectors, width: width(vectors, inputs.shape()), coefficients, divisor, inputs: inputs_of_each })
    }

    /// Computes the elements from `start` on; at most a tile.
    pub(super) fn apply(
        &self,
        inputs: &Inputs<'_>,
        start: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let buffer = &mut scratch.take(1, out.len())[0];
        for (i, source) in inputs.all().take(self.inputs).enumerate() {
            source.read(start, if i == 0 { &mut *out } else { &mut *buffer })?;
            match self.vectors {
                Vectors::Whole => self.add(i, 0, buffer, out),
                Vectors::Rows => self.add_rows(i, start, buffer, out),
                Vectors::Columns => self.add_columns(i, start, buffer, out),
            }
        }
        if self.divisor != 1.0 {
            for x in out {
                *x /= self.divisor;
            }
        }
        Ok(())
    }

    fn add(&self, input: usize, vector: usize, x: &[f32], out: &mut [f32]) {
        let factor = self.coefficients[vector * self.inputs + input];
        match input {
            0 if factor == 1.0 => {}
            0 => scale(factor, out),
            _ => add_scaled(factor, x, out),
        }
    }

    fn add_rows(&self, input: usize, start: usize, x: &[f32], out: &mut [f32]) {
        let mut done = 0;
        while done < out.len() {
            let row = (start + done) / self.width;
            let end = out.len().min((row + 1) * self.width - start);
            self.add(input, row, &x[done..end], &mut out[done..end]);
            done = end;
        }
    }

    fn add_columns(&self, input: usize, start: usize, x: &[f32], out: &mut [f32]) {
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            let factor = self.coefficients[(start + i) % self.width * self.inputs + input];
            *out = if input == 0 { factor * *out } else { *out + factor * x };
        }
    }
}

fn vectors(method: &Method) -> Vectors {
    match method {
        Method::NuSlerp { vectors, .. } => *vectors,
        Method::ModelStock { filter_wise: true } => Vectors::Rows,
        _ => Vectors::Whole,
    }
}

fn width(vectors: Vectors, shape: &[usize]) -> usize {
    match vectors {
        Vectors::Whole => shape.iter().product(),
        Vectors::Rows => shape.last().copied().unwrap_or(1),
        Vectors::Columns => shape.get(1..).unwrap_or(&[]).iter().product(),
    }
}

/// The coefficients of the models, and of the base if there is one, of a vector.
fn of_gram(method: &Method, gram: &Gram, inputs: &Inputs<'_>) -> Vec<f32> {
    let mut found: Vec<f64> = match method {
        Method::Slerp { t } => slerp(gram, *t).to_vec(),
        Method::NuSlerp { weights, .. } => nuslerp(gram, *weights).to_vec(),
        Method::Karcher { max_iter, tol } => karcher(gram, *max_iter, *tol),
        Method::MultiSlerp { weights, normalize } => multislerp(gram, weights, *normalize),
        _ => stock(gram, inputs.models.len()),
    };
    if inputs.base.is_some() {
        // What was computed of differences: W_b + Σ c·(W − W_b).
        found.push(1.0 - found.iter().sum::<f64>());
    }
    found.into_iter().map(|c| c as f32).collect()
}

/// Model stock: `t` times the mean, `1 − t` times the base.
fn stock(gram: &Gram, count: usize) -> Vec<f64> {
    let n = count as f64;
    let (mut sum, mut pairs) = (0.0, 0.0);
    for i in 0..count {
        for j in i + 1..count {
            sum += (gram.of(i, j) / (gram.norm(i) * gram.norm(j)).max(1e-6)).clamp(-1.0, 1.0);
            pairs += 1.0;
        }
    }
    let cosine = sum / pairs;
    let below = 1.0 + (n - 1.0) * cosine;
    let t = if below.abs() < 1e-6 { 0.0 } else { n * cosine / below };
    vec![t / n; count]
}

/// The Gram matrix of each vector, of the differences from the base if there is one.
fn grams(vectors: Vectors, inputs: &Inputs<'_>) -> Result<Vec<Gram>> {
    let width = width(vectors, inputs.shape());
    match vectors {
        Vectors::Whole => whole(inputs),
        _ if inputs.elements() == 0 => Ok(Vec::new()),
        Vectors::Rows => rows(inputs, width),
        Vectors::Columns => columns(inputs, width),
    }
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    (0..count).flat_map(move |i| (i..count).map(move |j| (i, j)))
}

fn buffers(inputs: &Inputs<'_>) -> usize {
    inputs.models.len() + usize::from(inputs.base.is_some())
}

fn whole(inputs: &Inputs<'_>) -> Result<Vec<Gram>> {
    let count = inputs.models.len();
    let sums = inputs.per_block(|range, scratch| {
        let mut sums = vec![0.0; count * (count + 1) / 2];
        for tile in tiles(range) {
            let values = scratch.take(buffers(inputs), tile.len());
            inputs.read(tile.start, values)?;
            for (sum, (i, j)) in sums.iter_mut().zip(pairs(count)) {
                *sum += dot(&values[i], &values[j]);
            }
        }
        Ok(sums)
    })?;
    let mut upper = vec![0.0; count * (count + 1) / 2];
    for sums in sums {
        upper.iter_mut().zip(sums).for_each(|(upper, sum)| *upper += sum);
    }
    Ok(vec![Gram::new(count, &upper)])
}

/// Groups of whole rows, about a tile each.
fn groups(rows: usize, width: usize) -> impl IndexedParallelIterator<Item = Range<usize>> {
    let group = (TILE / width).max(1);
    (0..rows.div_ceil(group)).into_par_iter().map(move |i| i * group..rows.min((i + 1) * group))
}

fn rows(inputs: &Inputs<'_>, width: usize) -> Result<Vec<Gram>> {
    let (count, rows) = (inputs.models.len(), inputs.elements() / width);
    let group = |scratch: &mut Scratch, group: Range<usize>| -> Result<Vec<Gram>> {
        inputs.cancel.check()?;
        let mut found = Vec::new();
        for row in group.clone() {
            let mut upper = vec![0.0; count * (count + 1) / 2];
            for tile in tiles(row * width..(row + 1) * width) {
                let values = scratch.take(buffers(inputs), tile.len());
                inputs.read(tile.start, values)?;
                for (sum, (i, j)) in upper.iter_mut().zip(pairs(count)) {
                    *sum += dot(&values[i], &values[j]);
                }
            }
            found.push(Gram::new(count, &upper));
        }
        inputs.release(&(group.start * width..group.end * width));
        Ok(found)
    };
    let found: Vec<Vec<Gram>> = groups(rows, width).map_init(Scratch::default, group).collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Ranges of columns, each by one thread, from the first row to the last.
fn columns(inputs: &Inputs<'_>, width: usize) -> Result<Vec<Gram>> {
    let (count, rows) = (inputs.models.len(), inputs.elements() / width);
    let products = count * (count + 1) / 2;
    let range = |scratch: &mut Scratch, part: Range<usize>| -> Result<Vec<Gram>> {
        let mut sums = vec![0.0; part.len() * products];
        for row in 0..rows {
            inputs.cancel.check()?;
            let values = scratch.take(buffers(inputs), part.len());
            inputs.read(row * width + part.start, values)?;
            for (at, (i, j)) in pairs(count).enumerate() {
                let products = values[i].iter().zip(&values[j]).map(|(a, b)| f64::from(*a) * f64::from(*b));
                sums[at * part.len()..].iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
            }
        }
        let upper = |column: usize| (0..products).map(|at| sums[at * part.len() + column]).collect::<Vec<_>>();
        Ok((0..part.len()).map(|column| Gram::new(count, &upper(column))).collect())
    };
    let step = TILE / 8;
    let parts = (0..width.div_ceil(step)).into_par_iter().map(|i| i * step..width.min((i + 1) * step));
    let found: Vec<Vec<Gram>> = parts.map_init(Scratch::default, range).collect::<Result<_>>()?;
    inputs.release(&(0..inputs.elements()));
    Ok(found.into_iter().flatten().collect())
}
