//! Frequencies from two numbers: the width of the distribution, and the weight of its tails.

use entropy::Frequencies;

use super::alphabet::{Alphabet, Counts, ESCAPE};

/// Exponents of generalised Gaussians that the fit tries, in tenths: 10 is the Laplace
/// distribution, 20 the Gaussian.
const EXPONENTS: [u8; 5] = [7, 10, 13, 16, 20];

/// Parts of an octave in which widths are stored.
const PER_OCTAVE: f64 = 256.0;

/// Octaves from the narrowest width to the width of one step.
const OCTAVES: f64 = 64.0;

/// Symbols of at most this probability are escapes.
const LEAST: f64 = 1.0 / 16384.0;

/// Weights of context `c` have a density proportional to `exp(−|x/(width·2^(c/4))|^exponent)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    tenths: u8,
    /// Logarithm of the width in parts of an octave, from 2⁻⁶⁴ steps up.
    width: u16,
}

impl Shape {
    /// Approximately the most likely shape.
    pub(super) fn fit(alphabet: Alphabet, counts: &Counts) -> Self {
        let logs = Logs::of(alphabet);
        let misfit = |tenths: u8, log: f64| misfit(&logs, counts, tenths, log);
        let moments = EXPONENTS.map(|tenths| (tenths, log_width(&logs, counts, tenths)));
        let misfits = moments.map(|(tenths, log)| (misfit(tenths, log), tenths, log));
        let least = misfits.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let (mut least, tenths, mut log) = least.unwrap_or((0.0, EXPONENTS[0], 0.0));
        // Moments give the width of the density, but the counts are samples of it at a few steps.
        for step in [0.25, -0.25, 0.125, -0.125] {
            while misfit(tenths, log + step) < least {
                log += step;
                least = misfit(tenths, log);
            }
        }
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
        let logs = Logs::of(alphabet);
        let energies = energies(&logs, self.tenths, log, parity, context);
        let least = energies.iter().copied().fold(f64::INFINITY, f64::min);
        let mut p: Vec<f64> = energies.iter().map(|energy| libm::exp(least - energy)).collect();
        let sum: f64 = p.iter().sum();
        p[usize::from(ESCAPE)] = 0.0;
        for p in &mut p {
            *p = if *p > sum * LEAST { *p / sum } else { 0.0 };
        }
        p[usize::from(ESCAPE)] = LEAST;
        Frequencies::of_probabilities(&p)
    }
}

/// Natural logarithms of the magnitudes of symbols, by parity.
struct Logs([Vec<f64>; 2]);

impl Logs {
    fn of(alphabet: Alphabet) -> Self {
        let log = |symbol, parity| libm::log(alphabet.middle(symbol, parity).abs());
        Self([0, 1].map(|parity| (0..alphabet.symbols()).map(|symbol| log(symbol, parity)).collect()))
    }
}

/// Negative logarithm of the density at each symbol, up to a constant; infinite for the escape.
fn energies(logs: &Logs, tenths: u8, log: f64, parity: usize, context: usize) -> Vec<f64> {
    let exponent = f64::from(tenths) / 10.0;
    let width = std::f64::consts::LN_2 * (log + 0.25 * context as f64);
    let mut energies: Vec<f64> = logs.0[parity].iter().map(|log| libm::exp(exponent * (log - width))).collect();
    energies[usize::from(ESCAPE)] = f64::INFINITY;
    energies
}

/// Logarithm of the width that follows from the mean of the magnitudes' powers.
fn log_width(logs: &Logs, counts: &Counts, tenths: u8) -> f64 {
    let contexts = counts.len() / 2;
    let (mut sum, mut total) = (0.0, 0.0);
    for (id, counts) in counts.iter().enumerate().filter(|(_, counts)| counts[1..].iter().any(|n| *n > 0)) {
        let energies = energies(logs, tenths, 0.0, id / contexts, id % contexts);
        for (energy, n) in energies.iter().zip(counts).skip(1).filter(|(_, n)| **n > 0) {
            sum += *n as f64 * energy;
            total += *n as f64;
        }
    }
    let exponent = f64::from(tenths) / 10.0;
    if sum > 0.0 { libm::log2(exponent * sum / total) / exponent } else { -OCTAVES }
}

/// Negative log-likelihood.
fn misfit(logs: &Logs, counts: &Counts, tenths: u8, log: f64) -> f64 {
    /// Approximate cost of an escape; the density of a symbol may be 0.
    const MOST: f64 = 14.0;
    let contexts = counts.len() / 2;
    let mut sum = 0.0;
    for (id, counts) in counts.iter().enumerate().filter(|(_, counts)| counts[1..].iter().any(|n| *n > 0)) {
        let energies = energies(logs, tenths, log, id / contexts, id % contexts);
        let least = energies.iter().copied().fold(f64::INFINITY, f64::min);
        let near = energies.iter().map(|energy| energy - least).filter(|above| *above < 40.0);
        let all = libm::log(near.map(|above| libm::exp(-above)).sum());
        let seen = energies.iter().zip(counts).skip(1).filter(|(_, n)| **n > 0);
        sum += seen.map(|(energy, n)| *n as f64 * (energy - least + all).min(MOST)).sum::<f64>();
    }
    sum
}
