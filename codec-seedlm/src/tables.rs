//! What the search knows of each seed before it sees a weight.
//!
//! The energy that the basis of a seed can explain of a block is `‖L⁻¹Uᵀw‖²`, with `L·Lᵀ = UᵀU`. No quantisation explains
//! more, so a seed whose energy is too low is done with. [`Run`] holds seeds in the register's order, [`Drawn`] any others.
#![allow(clippy::needless_range_loop, reason = "matrices and lanes read best by index")]

use simd::{LANES, kernel, lanes, load};

use crate::block::{MAX_BLOCK, Shape};
use crate::fit::{Cholesky, inverse_factors};
use crate::lfsr::Lfsr;

/// Seeds in the register's order whose energies follow from one another.
///
/// Position `k` has the basis `u[k..]`, row by row, of the stream `u` of states. So `b = Uᵀw` is `y[k..k + P]` with
/// `y[k] = Σ w_c·u[k + P·c]`, and as a state is half the one before plus its new top bit, `y[k + 1] = y[k]/2 + T[pattern]`:
/// a signed subset sum of the weights, chosen by the C new bits at `k + 1 + P·c`.
#[derive(Debug)]
pub(crate) struct Run {
    /// The seed of each position.
    pub(crate) seeds: Vec<u32>,
    /// For each `y`: its pattern of bits, in two halves.
    pub(crate) patterns: Vec<[u8; 2]>,
    /// For each position: the slack of its energy, then L⁻¹ row by row.
    pub(crate) rows: Vec<f32>,
    /// The first `y` from the states themselves: what each weight of the block is multiplied by.
    pub(crate) first: [f32; MAX_BLOCK],
}

/// Seeds on their own: `L⁻¹Uᵀ`, stored column by column (P values for each weight).
#[derive(Debug, Default)]
pub(crate) struct Drawn {
    pub(crate) seeds: Vec<u32>,
    pub(crate) rows: Vec<f32>,
}

/// Above this slack a seed is better off on its own.
const MOST_SLACK: f64 = 0.01;
/// What rounding may add to or take from the energy of a [`Drawn`] seed.
pub(crate) const DRAWN_SLACK: f32 = 1e-5;
/// Unit roundoff of f32.
const UNIT: f64 = f32::EPSILON as f64 * 0.5;

/// Values that a [`Run`] keeps for a seed.
pub(crate) const fn run_row(rank: usize) -> usize {
    1 + rank * (rank + 1) / 2
}

/// Weights of a block whose bits are in the first half of a pattern; the others are in the second.
pub(crate) const fn first_half(weights: usize) -> usize {
    if weights <= 8 { weights } else { weights.div_ceil(2) }
}

/// Tables for `len` seeds in the register's order, the first of them `seed`.
pub(crate) fn run<const P: usize>(
    lfsr: &Lfsr,
    shape: Shape,
    importance: &[f64; MAX_BLOCK],
    seed: u32,
    len: usize,
) -> (Run, Drawn) {
    let mut states = Vec::with_capacity(1 + len + P * shape.weights);
    let mut state = seed;
    states.push(state);
    for _ in 0..len + P * shape.weights {
        state = lfsr.next(state);
        states.push(state);
    }
    let mut table = Run {
        patterns: (0..len + P - 1).map(|k| pattern(&states[1 + k..], P, shape)).collect(),
        rows: vec![0.0; len * run_row(P)],
        first: [0.0; MAX_BLOCK],
        seeds: Vec::new(),
    };
    let mut drawn = Drawn::default();
    let mut u = Vec::new();
    for (piece, rows) in table.rows.chunks_mut(PIECE * run_row(P)).enumerate() {
        let states = &states[piece * PIECE..];
        // The stream from the state after the seed of the piece's first position.
        let stream = states[1..].iter().take(PIECE + P * shape.weights);
        u.clear();
        u.extend(stream.map(|state| f64::from(*state as i32 - shape.middle())));
        if piece == 0 {
            for (i, first) in table.first[..shape.weights].iter_mut().enumerate() {
                *first = (u[P * i] / shape.divisor()) as f32;
            }
        }
        for k in fill_rows(shape, importance, &u, rows) {
            drawn.push::<P>(lfsr, shape, importance, states[k]);
        }
    }
    states.truncate(len);
    table.seeds = states;
    (table, drawn)
}

/// Positions whose rows are computed together: what that takes stays in the cache.
const PIECE: usize = 2048;

kernel! {
    /// Computes the rows of all positions from the stream `u`; returns the positions whose slack is too large.
    fn fill_rows<'a>(_simd, shape: Shape, importance: &'a [f64; MAX_BLOCK], u: &'a [f64], rows: &'a mut [f32]) -> Vec<usize> {
        match shape.rank {
            1 => fill_rows_at::<1>(shape, importance, u, rows),
            2 => fill_rows_at::<2>(shape, importance, u, rows),
            3 => fill_rows_at::<3>(shape, importance, u, rows),
            _ => fill_rows_at::<4>(shape, importance, u, rows),
        }
    }
}

#[inline(always)]
fn fill_rows_at<const P: usize>(
    shape: Shape,
    importance: &[f64; MAX_BLOCK],
    u: &[f64],
    rows: &mut [f32],
) -> Vec<usize> {
    let len = rows.len() / run_row(P);
    // lagged[d][k] = Σ h_c·u[k + P·c]·u[k + P·c + d]: the Gram matrix of position k has lagged[q − p][k + p] at (p, q).
    let mut lagged: [Vec<f64>; P] = std::array::from_fn(|d| vec![0.0; len + P - 1 - d]);
    for (d, sums) in lagged.iter_mut().enumerate() {
        for (i, h) in importance[..shape.weights].iter().enumerate() {
            for ((sum, a), b) in sums.iter_mut().zip(&u[P * i..]).zip(&u[P * i + d..]) {
                *sum += h * (a * b);
            }
        }
    }
    let slack = Slack::new(shape, importance);
    let mut alone = Vec::new();
    for (chunk, rows) in rows.chunks_mut(LANES * run_row(P)).enumerate() {
        let mut gram = [[[0.0; LANES]; P]; P];
        for p in 0..P {
            for q in p..P {
                gram[p][q] = load(&lagged[q - p][chunk * LANES + p..]);
            }
        }
        let inverse = inverse_factors(&gram);
        let slacks = slack.of_lanes(&inverse);
        for (lane, row) in rows.chunks_exact_mut(run_row(P)).enumerate() {
            if slacks[lane] > MOST_SLACK {
                // Never enough energy here, and looked at on its own.
                row[0] = -1.0;
                alone.push(chunk * LANES + lane);
                continue;
            }
            row[0] = slacks[lane] as f32;
            let mut at = 1;
            for (i, factors) in inverse.iter().enumerate() {
                for factor in &factors[..=i] {
                    row[at] = (factor[lane] * shape.divisor()) as f32;
                    at += 1;
                }
            }
        }
    }
    alone
}

/// The top bits of the states `states[P·c]`, the first half of the weights in the first byte.
fn pattern(states: &[u32], rank: usize, shape: Shape) -> [u8; 2] {
    let first = first_half(shape.weights);
    let mut halves = [0; 2];
    for i in 0..shape.weights {
        let bit = (states[rank * i] >> (shape.seed_bits - 1)) as u8;
        if i < first { halves[0] |= bit << i } else { halves[1] |= bit << (i - first) }
    }
    halves
}

/// How far the energy of a position may be from the truth, in shares of the block's energy.
struct Slack {
    /// Times the norm of L⁻¹ in units of the integer basis: of `L⁻¹b`, relative to the block.
    scale: f64,
}

impl Slack {
    fn new(shape: Shape, importance: &[f64; MAX_BLOCK]) -> Self {
        // Σ|h·w| of a block of energy 1 is at most this (Cauchy and Schwarz).
        let absolute: f64 = importance.iter().sum::<f64>().sqrt();
        let rank = shape.rank as f64;
        // The recurrence leaves out half the lowest bit of each state, and rounds subset sums of at most 16 terms; the errors
        // of all steps before add to at most twice that of one. Then come the roundings of L⁻¹b.
        let of_b = absolute * (0.5 / shape.divisor() + 40.0 * UNIT) + 8.0 * UNIT * absolute * rank.sqrt();
        Self { scale: shape.divisor() * rank.sqrt() * of_b }
    }

    #[inline(always)]
    fn of_lanes<const P: usize>(&self, inverse: &[[[f64; LANES]; P]; P]) -> [f64; LANES] {
        let mut square = [0.0; LANES];
        for factor in inverse.iter().flatten() {
            square = lanes!(i => square[i] + factor[i] * factor[i]);
        }
        let of_z: [f64; LANES] = lanes!(i => square[i].sqrt() * self.scale);
        lanes!(i => 2.0 * of_z[i] + of_z[i] * of_z[i] + 2e-6)
    }
}

impl Drawn {
    /// Tables for these seeds.
    pub(crate) fn new<const P: usize>(
        lfsr: &Lfsr,
        shape: Shape,
        importance: &[f64; MAX_BLOCK],
        seeds: impl Iterator<Item = u32>,
    ) -> Self {
        let mut drawn = Self::default();
        for seed in seeds {
            drawn.push::<P>(lfsr, shape, importance, seed);
        }
        drawn
    }

    fn push<const P: usize>(&mut self, lfsr: &Lfsr, shape: Shape, importance: &[f64; MAX_BLOCK], seed: u32) {
        let word = lfsr.word(seed);
        let mut gram = [[0.0; P]; P];
        let row = |i: usize| -> [f64; P] { std::array::from_fn(|p| f64::from(shape.element(word, 1 + i * P + p))) };
        for (i, h) in importance[..shape.weights].iter().enumerate() {
            let u = row(i);
            for p in 0..P {
                for q in p..P {
                    gram[p][q] += h * (u[p] * u[q]);
                }
            }
        }
        let cholesky = Cholesky::new(&gram);
        self.seeds.push(seed);
        for i in 0..shape.weights {
            let u = row(i);
            for inverse in &cholesky.inverse {
                let sum: f64 = inverse.iter().zip(u).map(|(l, u)| l * u).sum();
                self.rows.push(sum as f32);
            }
        }
    }
}
