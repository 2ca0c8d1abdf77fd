//! Tables of the search that depend on the seed only, not on the weights.
//!
//! The basis of a seed can explain the energy `‖L⁻¹Uᵀw‖²` of a block, with `L·Lᵀ = UᵀU`. No
//! quantisation explains more, so the search skips a seed whose energy is too low. [`Run`] holds
//! seeds in the register's order, [`Alone`] any others.
#![allow(clippy::needless_range_loop, reason = "matrices and lanes read best by index")]

use simd::{LANES, kernel, lanes, load};

use crate::block::{MAX_BLOCK, Shape, with_rank};
use crate::fit::{Basis, Cholesky};
use crate::lfsr::Lfsr;

/// Seeds in the register's order, whose energies are computed by a recurrence.
///
/// Position `k` has the basis `u[k..]`, row by row, of the stream `u` of states. So `b = Uᵀw` is
/// `y[k..k + P]` with `y[k] = Σ w_c·u[k + P·c]`. A state is half the one before plus its new top
/// bit, so `y[k + 1] = y[k]/2 + T[pattern]`: a signed subset sum of the weights, selected by the C
/// new bits at `k + 1 + P·c`.
#[derive(Debug)]
pub(crate) struct Run {
    /// The seed of each position.
    pub(crate) seeds: Vec<u32>,
    /// For each position: the pattern of bits, in two halves, that gives the last `y` of the next
    /// position.
    pub(crate) patterns: Vec<[u8; 2]>,
    /// For each position: the slack of its energy, then L⁻¹, row by row.
    pub(crate) rows: Vec<f32>,
    /// The basis of the first position, row by row.
    pub(crate) basis: Vec<f32>,
}

/// Single seeds, drawn at random or too ill-conditioned for a [`Run`]: `L⁻¹Uᵀ`, column by column (P
/// values for each weight).
#[derive(Debug, Default)]
pub(crate) struct Alone {
    pub(crate) seeds: Vec<u32>,
    pub(crate) rows: Vec<f32>,
}

/// A seed with a larger slack is searched as [`Alone`].
const MOST_SLACK: f64 = 0.01;
/// Bound of the rounding error in the energy of a seed in [`Alone`].
pub(crate) const ALONE_SLACK: f32 = 1e-5;
/// Bound of the rounding loss in an energy of up to 1, a sum of at most 4 squares.
const SUM_SLACK: f64 = 2e-6;
/// Unit roundoff of f32.
const UNIT: f64 = f32::EPSILON as f64 * 0.5;

/// Number of values that a [`Run`] keeps for each seed.
pub(crate) const fn run_row(rank: usize) -> usize {
    1 + rank * (rank + 1) / 2
}

/// Number of weights whose bits are in the first half of a pattern; the other bits are in the
/// second half.
pub(crate) const fn first_half(weights: usize) -> usize {
    if weights <= 8 { weights } else { weights.div_ceil(2) }
}

/// Tables for `len` seeds in the register's order, starting with `seed`, and tables for those of
/// them that are searched as [`Alone`].
pub(crate) fn run<const P: usize>(
    lfsr: &Lfsr,
    shape: Shape,
    importance: &[f64; MAX_BLOCK],
    seed: u32,
    len: usize,
) -> (Run, Alone) {
    let basis = P * shape.weights;
    let mut states: Vec<u32> =
        std::iter::successors(Some(seed), |state| Some(lfsr.next(*state))).take(1 + len + basis).collect();
    let first = states[1..].iter().take(basis);
    let mut table = Run {
        patterns: (1 + P..).take(len).map(|k| pattern(&states[k..], P, shape)).collect(),
        rows: vec![0.0; len * run_row(P)],
        basis: first.map(|state| (f64::from(shape.element(*state)) / shape.divisor()) as f32).collect(),
        seeds: Vec::new(),
    };
    let mut alone = Alone::default();
    for (piece, rows) in table.rows.chunks_mut(PIECE * run_row(P)).enumerate() {
        let states = &states[piece * PIECE..];
        let stream = states[1..].iter().take(PIECE + basis);
        let u: Vec<f64> = stream.map(|state| shape.element(*state).into()).collect();
        for k in fill_rows(shape, importance, &u, rows) {
            alone.push::<P>(lfsr, shape, importance, states[k]);
        }
    }
    states.truncate(len);
    table.seeds = states;
    (table, alone)
}

/// Number of positions whose rows are computed together; their data stays in the cache.
const PIECE: usize = 2048;

kernel! {
    /// Computes the rows of all positions from the stream `u`. Returns the positions whose slack is
    /// too large.
    fn fill_rows<'a>(_simd, shape: Shape, importance: &'a [f64; MAX_BLOCK], u: &'a [f64], rows: &'a mut [f32]) -> Vec<usize> {
        with_rank!(shape.rank, P => fill_rows_at::<P>(shape, importance, u, rows))
    }
}

#[inline(always)]
fn fill_rows_at<const P: usize>(
    shape: Shape,
    importance: &[f64; MAX_BLOCK],
    u: &[f64],
    rows: &mut [f32],
) -> Vec<usize> {
    let lagged = lagged_products::<P>(shape, importance, u, rows.len() / run_row(P));
    let slack = Slack::new(shape, importance);
    let mut alone = Vec::new();
    for (chunk, rows) in rows.chunks_mut(LANES * run_row(P)).enumerate() {
        let mut gram = [[[0.0; LANES]; P]; P];
        for p in 0..P {
            for q in p..P {
                gram[p][q] = load(&lagged[q - p][chunk * LANES + p..]);
            }
        }
        let inverse = Cholesky::new(&gram).inverse;
        let slacks = slack.of_lanes(&inverse);
        for (lane, row) in rows.chunks_exact_mut(run_row(P)).enumerate() {
            if slacks[lane] > MOST_SLACK {
                // The row never reaches enough energy here; the seed is searched as `Alone`.
                row[0] = -1.0;
                alone.push(chunk * LANES + lane);
                continue;
            }
            row[0] = slacks[lane] as f32;
            let lower = (0..P).flat_map(|i| &inverse[i][..=i]);
            for (value, factor) in row[1..].iter_mut().zip(lower) {
                *value = (factor[lane] * shape.divisor()) as f32;
            }
        }
    }
    alone
}

/// `lagged[d][k] = Σ h_c·u[k + P·c]·u[k + P·c + d]`. The Gram matrix of position `k` has
/// `lagged[q − p][k + p]` at (p, q).
#[inline(always)]
fn lagged_products<const P: usize>(
    shape: Shape,
    importance: &[f64; MAX_BLOCK],
    u: &[f64],
    len: usize,
) -> [Vec<f64>; P] {
    let mut lagged: [Vec<f64>; P] = std::array::from_fn(|d| vec![0.0; len + P - 1 - d]);
    for (d, sums) in lagged.iter_mut().enumerate() {
        for (i, h) in importance[..shape.weights].iter().enumerate() {
            for ((sum, a), b) in sums.iter_mut().zip(&u[P * i..]).zip(&u[P * i + d..]) {
                *sum += h * (a * b);
            }
        }
    }
    lagged
}

/// The top bits of the states `states[P·c]`; the first byte holds the first half of the weights.
fn pattern(states: &[u32], rank: usize, shape: Shape) -> [u8; 2] {
    let first = first_half(shape.weights);
    let mut halves = [0; 2];
    for i in 0..shape.weights {
        let bit = (states[rank * i] >> (shape.seed_bits - 1)) as u8;
        if i < first { halves[0] |= bit << i } else { halves[1] |= bit << (i - first) }
    }
    halves
}

/// Bound of the error in the energy of a position, as a share of the block's energy.
struct Slack {
    /// Bound of the error in `L⁻¹b` relative to the block, for L⁻¹ (of the integer basis) of norm
    /// 1.
    scale: f64,
}

impl Slack {
    fn new(shape: Shape, importance: &[f64; MAX_BLOCK]) -> Self {
        // For a block of energy 1, Σ|h·w| is at most this (Cauchy–Schwarz inequality).
        let absolute: f64 = importance[..shape.weights].iter().sum::<f64>().sqrt();
        let rank = shape.rank as f64;
        // The recurrence omits half the lowest bit of each state, and rounds subset sums of at most
        // 16 terms. The errors of all steps before add up to at most twice the error of one step.
        // The last term covers the rounding in L⁻¹b.
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
        lanes!(i => 2.0 * of_z[i] + of_z[i] * of_z[i] + SUM_SLACK)
    }
}

impl Alone {
    /// Tables for these seeds.
    pub(crate) fn new<const P: usize>(
        lfsr: &Lfsr,
        shape: Shape,
        importance: &[f64; MAX_BLOCK],
        seeds: impl Iterator<Item = u32>,
    ) -> Self {
        let mut alone = Self::default();
        for seed in seeds {
            alone.push::<P>(lfsr, shape, importance, seed);
        }
        alone
    }

    fn push<const P: usize>(&mut self, lfsr: &Lfsr, shape: Shape, importance: &[f64; MAX_BLOCK], seed: u32) {
        let basis = Basis::<P>::new(shape, lfsr.word(seed), importance);
        self.seeds.push(seed);
        for u in &basis.rows[..shape.weights] {
            for p in 0..P {
                let sum: f64 = u.iter().enumerate().map(|(q, u)| basis.cholesky.inverse(p, q) * u).sum();
                self.rows.push(sum as f32);
            }
        }
    }
}
