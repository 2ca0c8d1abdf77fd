//! Frequencies from two numbers: how wide the distribution is, and how heavy its tails are.

use entropy::Frequencies;

use super::alphabet::{Alphabet, ESCAPE};
use super::model::Counts;

/// Exponents of generalised Gaussians, in tenths, that are tried: 10 is Laplace's distribution, 20 Gauss's.
const EXPONENTS: [u8; 8] = [6, 8, 10, 12, 15, 18, 20, 24];

/// Parts of an octave in which widths are told.
const PER_OCTAVE: f64 = 256.0;

/// Octaves from the widest to a width of one step.
const OCTAVES: f64 = 64.0;

/// Less probable symbols are escapes.
const LEAST: f64 = 1.0 / 16384.0;

/// Weights of context `c` have the density `exp(−|x/(width·2^(c/4))|^exponent)`, up to a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    tenths: u8,
    /// The width's logarithm in parts of an octave, from 2⁻⁶⁴ steps up.
    width: u16,
}

impl Shape {
    /// The likeliest one, nearly.
    pub(super) fn fit(alphabet: Alphabet, counts: &Counts) -> Self {
        let cells = cells(alphabet, counts);
        let moments = EXPONENTS.map(|tenths| (tenths, log_width(&cells, tenths)));
        let likely = |(tenths, log): &(u8, f64)| misfit(alphabet, counts, *tenths, *log);
        let least = |list: &[(u8, f64)]| {
            list.iter().copied().min_by(|a, b| likely(a).total_cmp(&likely(b))).unwrap_or((20, 0.0))
        };
        // Moments tell the width of a density; at few steps to it, its samples are another thing.
        let (tenths, log) = least(&moments);
        let around: Vec<_> = (-6..=6).map(|eighth| (tenths, log + f64::from(eighth) / 8.0)).collect();
        let (tenths, log) = least(&around);
        let width = libm::round(((log + OCTAVES) * PER_OCTAVE).clamp(0.0, f64::from(u16::MAX))) as u16;
        Self { tenths, width }
    }

    pub(super) fn write(self, text: &mut Vec<u8>) {
        text.push(self.tenths);
        text.extend(self.width.to_le_bytes());
    }

    pub(super) fn read(text: &mut &[u8]) -> Option<Self> {
        let (&[tenths, low, high], rest) = text.split_first_chunk()?;
        *text = rest;
        (1..=40).contains(&tenths).then_some(Self { tenths, width: u16::from_le_bytes([low, high]) })
    }

    /// The table of a parity and a context.
    pub(super) fn frequencies(self, alphabet: Alphabet, parity: usize, context: usize) -> Option<Frequencies> {
        let log = f64::from(self.width) / PER_OCTAVE - OCTAVES;
        let mut p: Vec<f64> = densities(alphabet, self.tenths, log, parity, context).collect();
        let sum: f64 = p.iter().sum();
        p[usize::from(ESCAPE)] = 0.0;
        for p in &mut p {
            *p = if *p > sum * LEAST { *p / sum } else { 0.0 };
        }
        p[usize::from(ESCAPE)] = LEAST;
        Frequencies::of_probabilities(&p)
    }
}

/// The density at the middle of each symbol, the escape's left at nothing.
fn densities(alphabet: Alphabet, tenths: u8, log: f64, parity: usize, context: usize) -> impl Iterator<Item = f64> {
    let inverse = libm::exp2(-log - 0.25 * context as f64);
    let exponent = f64::from(tenths) / 10.0;
    // Relative to the largest, so that there is always one.
    let power = move |s: usize| libm::pow(alphabet.middle(s, parity).abs() * inverse, exponent);
    let middle = alphabet.reach as usize + 1;
    let most = [middle - 1, middle, middle + 1].map(power).into_iter().fold(f64::INFINITY, f64::min);
    (0..alphabet.symbols()).map(move |s| if s == usize::from(ESCAPE) { 0.0 } else { libm::exp(most - power(s)) })
}

/// A magnitude of a context, and how often it occurs.
struct Cell {
    magnitude: f64,
    context: usize,
    count: f64,
}

fn cells(alphabet: Alphabet, counts: &Counts) -> Vec<Cell> {
    let contexts = counts.len() / 2;
    let mut cells = Vec::new();
    for (id, counts) in counts.iter().enumerate() {
        for symbol in (1..alphabet.symbols()).filter(|symbol| counts[*symbol] > 0) {
            let magnitude = alphabet.middle(symbol, id / contexts).abs();
            cells.push(Cell { magnitude, context: id % contexts, count: counts[symbol] as f64 });
        }
    }
    cells
}

/// The logarithm of the width that the mean of the magnitudes' powers tells.
fn log_width(cells: &[Cell], tenths: u8) -> f64 {
    let exponent = f64::from(tenths) / 10.0;
    let (mut sum, mut count) = (0.0, 0.0);
    for cell in cells {
        sum += cell.count * libm::pow(cell.magnitude * libm::exp2(-0.25 * cell.context as f64), exponent);
        count += cell.count;
    }
    if sum > 0.0 { libm::log2(exponent * sum / count) / exponent } else { -OCTAVES }
}

/// The negative logarithm of the likelihood.
fn misfit(alphabet: Alphabet, counts: &Counts, tenths: u8, log: f64) -> f64 {
    let contexts = counts.len() / 2;
    let mut sum = 0.0;
    for (id, counts) in counts.iter().enumerate() {
        let total: u64 = counts[1..].iter().sum();
        if total > 0 {
            let (parity, context) = (id / contexts, id % contexts);
            let densities: Vec<f64> = densities(alphabet, tenths, log, parity, context).collect();
            let all = libm::log(densities.iter().sum());
            let parts = densities.iter().zip(counts).filter(|(_, n)| **n > 0).skip(usize::from(counts[0] > 0));
            // Where the density is nothing, an escape it is.
            sum += parts.map(|(p, n)| *n as f64 * (all - libm::log(p.max(1e-8))).min(20.0)).sum::<f64>();
        }
    }
    sum
}
