//! The hot loops of the search: which seeds may explain enough of which blocks. Lanes are blocks.
//!
//! The energies here are upper bounds in f32. They only select the candidates for the exact fit, so
//! their last bits may differ between CPUs.
#![allow(clippy::needless_range_loop, reason = "matrices and lanes read best by index")]

use simd::{LANES, Simd, kernel, lanes};

use crate::block::{MAX_BLOCK, MAX_RANK, Shape, with_rank};
use crate::fit::Target;
use crate::tables::{ALONE_SLACK, Alone, Run, first_half, run_row};

/// Number of blocks that are searched together.
pub(crate) const GROUP: usize = VECTORS * LANES;
/// Number of vectors of blocks.
pub(crate) const VECTORS: usize = 2;
/// Number of seeds between two checks of the survivors.
pub(crate) const TILE: usize = 512;

/// A value for each block of a group.
pub(crate) type Blocks = [[f32; LANES]; VECTORS];

/// The weights of a group times their importance, in units of the square root of the block's
/// energy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes([Blocks; MAX_BLOCK]);

impl Lanes {
    /// Sets block `i` of the group; its energy must not be 0.
    pub(crate) fn set(&mut self, i: usize, target: &Target) {
        let scale = 1.0 / target.energy.sqrt();
        for ((lanes, w), h) in self.0.iter_mut().zip(&target.weights).zip(&target.importance) {
            lanes[i / LANES][i % LANES] = (w * h * scale) as f32;
        }
    }
}

/// A seed that may be the best one for some blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survivor {
    /// Its place in the table.
    pub(crate) place: usize,
    /// A bit for each of these blocks.
    pub(crate) blocks: u32,
}

/// Signed subset sums of the weights of each block of a vector, indexed by pattern.
type Sums = [[f32; LANES]; 256];

/// State of a walk along a [`Run`] for a group of blocks.
#[derive(Debug)]
pub(crate) struct Walk {
    /// For each half of the patterns.
    sums: [Vec<Sums>; 2],
    /// For each vector: `y` of the next position and of those after it.
    y: [Ys; VECTORS],
}

/// Bytes of the subset sums of a [`Walk`].
pub(crate) const WALK_BYTES: u64 = (2 * size_of::<[Sums; VECTORS]>()) as u64;

/// The values of `y` that form the `b` of a position; those beyond the rank are unused.
type Ys = [[f32; LANES]; MAX_RANK];

impl Walk {
    pub(crate) fn new() -> Self {
        let zeros = || vec![[[0.0; LANES]; 256]; VECTORS];
        Self { sums: [zeros(), zeros()], y: [[[0.0; LANES]; MAX_RANK]; VECTORS] }
    }

    /// Starts at the first position of a run.
    pub(crate) fn start(&mut self, shape: Shape, run: &Run, lanes: &Lanes) {
        // A new top bit adds half the range of states; the lowest bit that a state loses is worth a
        // quarter on average.
        let half = f64::from(shape.middle());
        let (set, unset) = ((half * 0.5 - 0.25) / shape.divisor(), (-half * 0.5 - 0.25) / shape.divisor());
        let first = first_half(shape.weights);
        for vector in 0..VECTORS {
            let weights: Vec<[f32; LANES]> = lanes.0[..shape.weights].iter().map(|w| w[vector]).collect();
            subset_sums(&weights[..first], [unset as f32, set as f32], &mut self.sums[0][vector]);
            subset_sums(&weights[first..], [unset as f32, set as f32], &mut self.sums[1][vector]);
            self.y[vector] = [[0.0; LANES]; MAX_RANK];
            for (weight, row) in weights.iter().zip(run.basis.chunks_exact(shape.rank)) {
                for (y, u) in self.y[vector].iter_mut().zip(row) {
                    *y = lanes!(i => y[i] + weight[i] * u);
                }
            }
        }
    }
}

/// All sums of `weights[i] · factor[bit i of the index]`.
fn subset_sums(weights: &[[f32; LANES]], factor: [f32; 2], sums: &mut Sums) {
    sums[0] = [0.0; LANES];
    for (i, weight) in weights.iter().enumerate() {
        for index in 0..1 << i {
            let base = sums[index];
            for lane in 0..LANES {
                sums[index][lane] = base[lane] + weight[lane] * factor[0];
                sums[index | 1 << i][lane] = base[lane] + weight[lane] * factor[1];
            }
        }
    }
}

kernel! {
    /// Walks over at most [`TILE`] positions of `run` from `start` on, and adds those whose energy
    /// reaches `need` for some block.
    pub(crate) fn walk<'a>(simd, shape: Shape, run: &'a Run, start: usize, state: &'a mut Walk, need: &'a Blocks, out: &'a mut Vec<Survivor>) {
        with_rank!(shape.rank, P => if shape.weights > 8 {
            walk_at::<S, P, true>(simd, run, start, state, need, out);
        } else {
            walk_at::<S, P, false>(simd, run, start, state, need, out);
        });
    }
}

#[inline(always)]
fn walk_at<S: Simd, const P: usize, const HALVES: bool>(
    simd: S,
    run: &Run,
    start: usize,
    state: &mut Walk,
    need: &Blocks,
    out: &mut Vec<Survivor>,
) {
    let len = run.seeds.len().min(start + TILE) - start;
    let rows = run.rows[start * run_row(P)..].chunks_exact(run_row(P)).take(len);
    let [mut first, mut second] = state.y;
    let [low, high] = &state.sums;
    for (i, (row, next)) in rows.zip(&run.patterns[start..]).enumerate() {
        let mut blocks = u32::from(simd.at_least(&energy::<S, P>(simd, row, &first), &need[0]));
        blocks |= u32::from(simd.at_least(&energy::<S, P>(simd, row, &second), &need[1])) << LANES;
        advance::<S, P, HALVES>(simd, &mut first, [&low[0], &high[0]], *next);
        advance::<S, P, HALVES>(simd, &mut second, [&low[1], &high[1]], *next);
        if blocks != 0 {
            out.push(Survivor { place: start + i, blocks });
        }
    }
    state.y = [first, second];
}

/// `‖L⁻¹y‖²` plus the slack. The code is unrolled: in a loop the vectors would go through memory.
#[inline(always)]
fn energy<S: Simd, const P: usize>(simd: S, row: &[f32], y: &Ys) -> [f32; LANES] {
    let zeros = [0.0; LANES];
    let mut z = times(simd, row[1], &y[0], &zeros);
    let mut energy = simd.multiply_add(&z, &z, &[row[0]; LANES]);
    if P > 1 {
        z = times(simd, row[3], &y[1], &times(simd, row[2], &y[0], &zeros));
        energy = simd.multiply_add(&z, &z, &energy);
    }
    if P > 2 {
        z = times(simd, row[6], &y[2], &times(simd, row[5], &y[1], &times(simd, row[4], &y[0], &zeros)));
        energy = simd.multiply_add(&z, &z, &energy);
    }
    if P > 3 {
        z = times(simd, row[8], &y[1], &times(simd, row[7], &y[0], &zeros));
        z = times(simd, row[10], &y[3], &times(simd, row[9], &y[2], &z));
        energy = simd.multiply_add(&z, &z, &energy);
    }
    energy
}

/// `factor·y + sum`.
#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, y: &[f32; LANES], sum: &[f32; LANES]) -> [f32; LANES] {
    simd.multiply_add(&[factor; LANES], y, sum)
}

/// Drops the first `y` and appends the next one.
#[inline(always)]
fn advance<S: Simd, const P: usize, const HALVES: bool>(simd: S, y: &mut Ys, sums: [&Sums; 2], next: [u8; 2]) {
    let mut new = simd.multiply_add(&y[P - 1], &[0.5; LANES], &sums[0][usize::from(next[0])]);
    if HALVES {
        let high = &sums[1][usize::from(next[1])];
        new = lanes!(i => new[i] + high[i]);
    }
    if P > 1 {
        y[0] = y[1];
    }
    if P > 2 {
        y[1] = y[2];
    }
    if P > 3 {
        y[2] = y[3];
    }
    y[P - 1] = new;
}

kernel! {
    /// Checks at most [`TILE`] seeds of `alone` from `start` on, and adds those whose energy
    /// reaches `need` for some block.
    pub(crate) fn look<'a>(simd, shape: Shape, alone: &'a Alone, start: usize, lanes: &'a Lanes, need: &'a Blocks, out: &'a mut Vec<Survivor>) {
        with_rank!(shape.rank, P => look_at::<S, P>(simd, shape.weights, alone, start, lanes, need, out));
    }
}

#[inline(always)]
fn look_at<S: Simd, const P: usize>(
    simd: S,
    count: usize,
    alone: &Alone,
    start: usize,
    lanes: &Lanes,
    need: &Blocks,
    out: &mut Vec<Survivor>,
) {
    let rows = alone.rows[start * count * P..].chunks_exact(count * P).take(TILE);
    for (i, row) in rows.enumerate() {
        let mut z = [[[0.0; LANES]; VECTORS]; P];
        for (weight, column) in lanes.0.iter().zip(row.as_chunks::<P>().0) {
            for p in 0..P {
                for vector in 0..VECTORS {
                    z[p][vector] = simd.multiply_add(&[column[p]; LANES], &weight[vector], &z[p][vector]);
                }
            }
        }
        let mut blocks = 0;
        for vector in 0..VECTORS {
            let mut energy = [ALONE_SLACK; LANES];
            for z in &z {
                energy = simd.multiply_add(&z[vector], &z[vector], &energy);
            }
            blocks |= u32::from(simd.at_least(&energy, &need[vector])) << (LANES * vector);
        }
        if blocks != 0 {
            out.push(Survivor { place: start + i, blocks });
        }
    }
}
