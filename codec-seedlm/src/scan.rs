//! The hot loops of the search: which seeds may explain enough of which blocks. Lanes are blocks.
//!
//! The energies here are upper bounds in f32. They only select the candidates for the exact fit, so
//! their last bits may differ between CPUs.
#![allow(clippy::needless_range_loop, reason = "matrices and lanes read best by index")]

use simd::{LANES, Simd, kernel, lanes};

use crate::block::{EXPONENTS, MAX_BLOCK, MAX_RANK, Shape, with_rank};
use crate::fit::{Fitter, Target};
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

/// The multiples of the steps that a code may have, for each block of a group.
#[derive(Clone, Debug)]
pub(crate) struct Lattice {
    /// The step of each exponent, relative to the largest, and its inverse.
    steps: [[f32; EXPONENTS]; 2],
    /// The largest step of each block, in units of the square root of its energy, and its inverse.
    unit: [Blocks; 2],
    /// The smallest and the largest mantissa.
    ends: [f32; 2],
}

impl Lattice {
    pub(crate) fn new(fitter: &Fitter) -> Self {
        let (steps, most) = (fitter.steps, fitter.shape.largest_mantissa() as f32);
        let relative = steps.map(|step| (step / steps[EXPONENTS - 1]) as f32);
        let zeros = [[0.0; LANES]; VECTORS];
        Self { steps: [relative, relative.map(f32::recip)], unit: [zeros; 2], ends: [-most - 1.0, most] }
    }

    /// Sets block `i` of the group; its energy must not be 0.
    pub(crate) fn set(&mut self, i: usize, fitter: &Fitter, target: &Target) {
        let unit = fitter.steps[EXPONENTS - 1] * fitter.shape.divisor() / target.energy.sqrt();
        for (units, unit) in self.unit.iter_mut().zip([unit, 1.0 / unit]) {
            units[i / LANES][i % LANES] = unit as f32;
        }
    }

    /// A bit for each exponent with which the seed of this row of a [`Run`] may have a code whose
    /// error is at most the energy that the basis leaves plus `excess`. Each coefficient of such a
    /// code is near that of the projection.
    #[inline(always)]
    fn exponents<S: Simd, const P: usize>(
        &self,
        simd: S,
        row: &[f32],
        y: &Ys,
        [vector, lane]: [usize; 2],
        excess: f32,
    ) -> u16 {
        /// Bound of the rounding errors of this function, as a share of a coefficient's spread.
        const ROUNDING: f32 = 4e-6;
        let inverse = |q: usize, p: usize| row[1 + q * (q + 1) / 2 + p];
        let [unit, per_unit] = [0, 1].map(|i| self.unit[i][vector][lane]);
        let steps: [f32; EXPONENTS] = lanes!(e => self.steps[0][e] * unit);
        let inverses: [f32; EXPONENTS] = lanes!(e => self.steps[1][e] * per_unit);
        // The slack of the energy is more than twice the error of a coordinate.
        let margin = excess.max(0.0).sqrt() + 0.5 * row[0] + ROUNDING;
        let mut z = [0.0f32; P];
        for q in 0..P {
            for p in 0..=q {
                z[q] += inverse(q, p) * y[p][lane];
            }
        }
        let mut beyond = [0.0f32; EXPONENTS];
        for p in 0..P {
            let (mut coefficient, mut spread) = (0.0, 0.0);
            for q in p..P {
                coefficient += inverse(q, p) * z[q];
                spread += inverse(q, p) * inverse(q, p);
            }
            let reach = margin * spread.sqrt();
            beyond = lanes!(e => {
                let x = coefficient * inverses[e];
                let x = if x < self.ends[0] { self.ends[0] } else { x };
                let off = (coefficient - round(if x > self.ends[1] { self.ends[1] } else { x }) * steps[e]).abs() - reach;
                if off > beyond[e] { off } else { beyond[e] }
            });
        }
        simd.at_least(&[0.0; EXPONENTS], &beyond)
    }
}

/// Rounds to nearest, ties to even, for |x| far below 2²².
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 1.5 * (1 << 23) as f32;
    (x + SHIFT) - SHIFT
}

/// A seed that may be the best one for a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survivor {
    /// Its place in the table.
    pub(crate) place: u32,
    /// The number of the block in its group.
    pub(crate) block: u8,
    /// A bit for each exponent to try.
    pub(crate) exponents: u16,
}

/// The numbers of the set bits, lowest first.
#[inline(always)]
pub(crate) fn set_bits(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        lowest
    })
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
    /// reaches `need` for some block, and that may have a code there.
    pub(crate) fn walk<'a>(
        simd,
        shape: Shape,
        run: &'a Run,
        start: usize,
        state: &'a mut Walk,
        need: &'a Blocks,
        lattice: &'a Lattice,
        out: &'a mut Vec<Survivor>,
    ) {
        with_rank!(shape.rank, P => if shape.weights > 8 {
            walk_at::<S, P, true>(simd, run, start, state, need, lattice, out);
        } else {
            walk_at::<S, P, false>(simd, run, start, state, need, lattice, out);
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
    lattice: &Lattice,
    out: &mut Vec<Survivor>,
) {
    let len = run.seeds.len().min(start + TILE) - start;
    let rows = run.rows[start * run_row(P)..].chunks_exact(run_row(P)).take(len);
    let [mut first, mut second] = state.y;
    let [low, high] = &state.sums;
    for (i, (row, next)) in rows.zip(&run.patterns[start..]).enumerate() {
        let energies = [energy::<S, P>(simd, row, &first), energy::<S, P>(simd, row, &second)];
        let mut blocks = u32::from(simd.at_least(&energies[0], &need[0]));
        blocks |= u32::from(simd.at_least(&energies[1], &need[1])) << LANES;
        if blocks != 0 {
            let place = (start + i) as u32;
            let excess = [lanes!(i => energies[0][i] - need[0][i]), lanes!(i => energies[1][i] - need[1][i])];
            survive::<S, P>(simd, row, [first, second], excess, lattice, [place, blocks], out);
        }
        advance::<S, P, HALVES>(simd, &mut first, [&low[0], &high[0]], *next);
        advance::<S, P, HALVES>(simd, &mut second, [&low[1], &high[1]], *next);
    }
    state.y = [first, second];
}

/// Adds the seed at `place` for those of these blocks for which it may have a code. It gets copies,
/// so that the walk keeps its own vectors in registers.
#[inline(always)]
fn survive<S: Simd, const P: usize>(
    simd: S,
    row: &[f32],
    y: [Ys; VECTORS],
    excess: Blocks,
    lattice: &Lattice,
    [place, blocks]: [u32; 2],
    out: &mut Vec<Survivor>,
) {
    for block in set_bits(blocks) {
        let [vector, lane] = [block / LANES, block % LANES];
        let excess = excess[vector][lane];
        let exponents = lattice.exponents::<S, P>(simd, row, &y[vector], [vector, lane], excess);
        if exponents != 0 {
            out.push(Survivor { place, block: block as u8, exponents });
        }
    }
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
        for block in set_bits(blocks) {
            out.push(Survivor { place: (start + i) as u32, block: block as u8, exponents: u16::MAX });
        }
    }
}
