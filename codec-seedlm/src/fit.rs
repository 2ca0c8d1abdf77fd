//! The best code of one block for one seed: least squares, then the closest point in the lattice of
//! mantissas.
//!
//! Everything that decides which code wins is here, in f64 and in one order of operations. So the
//! result does not depend on the CPU level, or on the order in which a search reaches the seeds.
#![allow(clippy::needless_range_loop, reason = "matrices and lanes read best by index")]

use crate::block::{Code, EXPONENTS, MAX_BLOCK, MAX_RANK, Shape};
use crate::grid::Grid;

/// A column counts as dependent, with mantissa 0, if its part independent of the columns before it
/// has less than this share of its squared length.
const DEPENDENT: f64 = 1e-8;

/// The weights of a block, padded with zeros after the end of the tensor, and the importance of
/// their errors.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) weights: [f64; MAX_BLOCK],
    pub(crate) importance: [f64; MAX_BLOCK],
    /// Σ importance · weight². It is 0 for a block that becomes zeros, because it is too small to
    /// search.
    pub(crate) energy: f64,
}

/// The best code so far and its squared error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    pub(crate) error: f64,
    /// `None` if there is no code yet; a first code must have an error of at most `error`.
    pub(crate) code: Option<Code>,
}

impl Best {
    #[inline(always)]
    pub(crate) fn offer(&mut self, error: f64, code: Code) {
        if error < self.error || (error == self.error && self.code.is_none_or(|best| code < best)) {
            *self = Self { error, code: Some(code) };
        }
    }
}

/// Lower triangular L of G = L·Lᵀ, and its inverse, for `N` matrices side by side. Entries of
/// dependent columns are 0.
pub(crate) struct Cholesky<const P: usize, const N: usize> {
    lower: [[[f64; N]; P]; P],
    pub(crate) inverse: [[[f64; N]; P]; P],
}

impl<const P: usize, const N: usize> Cholesky<P, N> {
    /// Factors Gram matrices, given by their upper triangles.
    #[inline(always)]
    pub(crate) fn new(gram: &[[[f64; N]; P]; P]) -> Self {
        let mut lower = [[[0.0; N]; P]; P];
        let mut inverse = [[[0.0; N]; P]; P];
        for i in 0..P {
            for j in 0..i {
                let mut sum = gram[j][i];
                for k in 0..j {
                    each::<N>(|l| sum[l] -= lower[i][k][l] * lower[j][k][l]);
                }
                each::<N>(|l| lower[i][j][l] = sum[l] * inverse[j][j][l]);
            }
            let mut pivot = gram[i][i];
            for k in 0..i {
                each::<N>(|l| pivot[l] -= lower[i][k][l] * lower[i][k][l]);
            }
            each::<N>(|l| {
                let independent = pivot[l] > DEPENDENT * gram[i][i][l];
                lower[i][i][l] = if independent { pivot[l].sqrt() } else { 0.0 };
                inverse[i][i][l] = if independent { 1.0 / lower[i][i][l] } else { 0.0 };
            });
            for j in 0..i {
                let mut sum = [0.0; N];
                for k in j..i {
                    each::<N>(|l| sum[l] += lower[i][k][l] * inverse[k][j][l]);
                }
                each::<N>(|l| inverse[i][j][l] = -sum[l] * inverse[i][i][l]);
            }
        }
        Self { lower, inverse }
    }
}

impl<const P: usize> Cholesky<P, 1> {
    fn lower(&self, i: usize, j: usize) -> f64 {
        self.lower[i][j][0]
    }

    pub(crate) fn inverse(&self, i: usize, j: usize) -> f64 {
        self.inverse[i][j][0]
    }
}

/// Calls `f` for each lane.
#[inline(always)]
fn each<const N: usize>(f: impl FnMut(usize)) {
    (0..N).for_each(f);
}

/// The basis of a seed in integers, and the common part of its least-squares problems.
pub(crate) struct Basis<const P: usize> {
    /// One row for each weight, padded with zeros.
    pub(crate) rows: [[f64; P]; MAX_BLOCK],
    /// Factorisation of `UᵀHU`, where `H` is the importance of the weights.
    pub(crate) cholesky: Cholesky<P, 1>,
}

impl<const P: usize> Basis<P> {
    #[inline(always)]
    pub(crate) fn new(shape: Shape, word: u128, importance: &[f64; MAX_BLOCK]) -> Self {
        let mut rows = [[0.0; P]; MAX_BLOCK];
        let mut gram = [[[0.0]; P]; P];
        for (i, row) in rows[..shape.weights].iter_mut().enumerate() {
            for (p, u) in row.iter_mut().enumerate() {
                *u = f64::from(shape.element_of_word(word, 1 + i * P + p));
            }
            for p in 0..P {
                for q in p..P {
                    gram[p][q][0] += importance[i] * (row[p] * row[q]);
                }
            }
        }
        Self { rows, cholesky: Cholesky::new(&gram) }
    }
}

/// Codes blocks of one shape with one exponent grid.
#[derive(Clone, Debug)]
pub(crate) struct Fitter {
    pub(crate) shape: Shape,
    /// Search the whole lattice of mantissas and exponents, instead of rounding the least-squares
    /// solution.
    pub(crate) refine: bool,
    /// Value of a mantissa of 1 for each exponent, in units of an integer basis.
    steps: [f64; EXPONENTS],
    inverse_steps: [f64; EXPONENTS],
    floor: f64,
}

impl Fitter {
    pub(crate) fn new(shape: Shape, refine: bool, grid: Grid) -> Self {
        let steps = grid.steps(shape);
        Self { shape, refine, steps, inverse_steps: steps.map(f64::recip), floor: grid.floor() }
    }

    /// The target for a block of weights.
    pub(crate) fn target(&self, weights: &[f32], importance: [f64; MAX_BLOCK]) -> Target {
        let mut target = Target { weights: [0.0; MAX_BLOCK], importance, energy: 0.0 };
        let mut square = 0.0;
        for (i, w) in weights.iter().enumerate() {
            let w = f64::from(*w);
            target.weights[i] = w;
            square += w * w;
            target.energy += importance[i] * (w * w);
        }
        if square < self.floor * self.floor {
            target.energy = 0.0;
        }
        target
    }

    /// Offers the best code with this seed. `P` is the rank, `basis` that of the seed for the
    /// target's importance.
    #[inline]
    pub(crate) fn fit<const P: usize>(&self, seed: u32, basis: &Basis<P>, target: &Target, best: &mut Best) {
        let mut b = [0.0; P];
        for (i, row) in basis.rows[..self.shape.weights].iter().enumerate() {
            for p in 0..P {
                b[p] += target.importance[i] * (row[p] * target.weights[i]);
            }
        }
        let mut z = [0.0; P];
        let mut residual = target.energy;
        for p in 0..P {
            for q in 0..=p {
                z[p] += basis.cholesky.inverse(p, q) * b[q];
            }
            residual -= z[p] * z[p];
        }
        if residual > best.error + target.energy * ROUNDING {
            return;
        }
        let mut t = [0.0; P];
        for p in 0..P {
            for q in p..P {
                t[p] += basis.cholesky.inverse(q, p) * z[q];
            }
        }
        let mut block = Seeded { fitter: self, target, basis, z, seed, best };
        if self.refine { block.closest(t, residual) } else { block.nearest(t) }
    }
}

/// Bound of the error of the f64 sums, as a share of a block's energy. Brute force prunes with it
/// too.
const ROUNDING: f64 = 1e-7;

/// Rounds to nearest, ties to even, for |x| far below 2⁵¹. Without SSE4.1 the standard function is
/// a call.
fn round(x: f64) -> f64 {
    const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;
    (x + SHIFT) - SHIFT
}

/// One seed's least-squares problem.
struct Seeded<'a, const P: usize> {
    fitter: &'a Fitter,
    target: &'a Target,
    basis: &'a Basis<P>,
    /// Coordinates of the projection of the weights.
    z: [f64; P],
    seed: u32,
    best: &'a mut Best,
}

impl<const P: usize> Seeded<'_, P> {
    /// Rounds the solution `t`: takes the smallest exponent that holds it, and the nearest
    /// mantissas.
    fn nearest(&mut self, t: [f64; P]) {
        let most = f64::from(self.fitter.shape.largest_mantissa());
        let largest = t.iter().fold(0.0, |m: f64, t| m.max(t.abs()));
        let fits = |step: &f64| largest <= (most + 0.5) * step;
        let exponent = self.fitter.steps.iter().position(fits).unwrap_or(EXPONENTS - 1);
        let step = self.fitter.steps[exponent];
        let mut mantissas = [0; MAX_RANK];
        for (m, t) in mantissas.iter_mut().zip(t) {
            *m = round((t / step).clamp(-most - 1.0, most)) as i8;
        }
        self.offer(exponent, mantissas);
    }

    /// Searches all exponents and mantissas for the least error, in Schnorr and Euchner's order.
    /// Quantisation adds `‖z − Lᵀx‖²` to the residual; this sum only grows from the last coordinate
    /// to the first.
    fn closest(&mut self, t: [f64; P], residual: f64) {
        let inverse = |q, p| self.basis.cholesky.inverse(q, p);
        let most = f64::from(self.fitter.shape.largest_mantissa());
        let mut spread = [0.0; P];
        for p in 0..P {
            for q in p..P {
                spread[p] += inverse(q, p) * inverse(q, p);
            }
        }
        for exponent in 0..EXPONENTS {
            let (step, per_step) = (self.fitter.steps[exponent], self.fitter.inverse_steps[exponent]);
            let budget = self.best.error + self.target.energy * ROUNDING - residual;
            // In some coordinate, no point within the budget is a mantissa times the step.
            let out = (0..P).rev().any(|p| {
                let off = t[p] - round((t[p] * per_step).clamp(-most - 1.0, most)) * step;
                off * off > budget * spread[p]
            });
            if !out {
                self.descend(P, exponent, residual, &mut [0.0; P], &mut [0; MAX_RANK]);
            }
        }
    }

    fn descend(&mut self, depth: usize, exponent: usize, spent: f64, x: &mut [f64; P], mantissas: &mut [i8; MAX_RANK]) {
        let Some(p) = depth.checked_sub(1) else { return self.offer(exponent, *mantissas) };
        let step = self.fitter.steps[exponent];
        let pivot = self.basis.cholesky.lower(p, p);
        if pivot == 0.0 {
            (x[p], mantissas[p]) = (0.0, 0);
            return self.descend(p, exponent, spent, x, mantissas);
        }
        let mut rest = self.z[p];
        for q in p + 1..P {
            rest -= self.basis.cholesky.lower(q, p) * x[q];
        }
        let center = rest * self.basis.cholesky.inverse(p, p) / step;
        let most = self.fitter.shape.largest_mantissa();
        let first = round(center.clamp(f64::from(-most - 1), f64::from(most))) as i32;
        // Goes outwards from the nearest mantissa. A side ends at the first mantissa that is too
        // far away or out of range.
        let (mut below, mut above) = (first - 1, first);
        let (mut down, mut up) = (true, true);
        while up || down {
            let upwards = up && (!down || f64::from(above) - center <= center - f64::from(below));
            let m = if upwards { above } else { below };
            x[p] = f64::from(m) * step;
            let distance = rest - pivot * x[p];
            let total = spent + distance * distance;
            let inside = m >= -most - 1 && m <= most && total <= self.best.error + self.target.energy * ROUNDING;
            if inside {
                mantissas[p] = m as i8;
                self.descend(p, exponent, total, x, mantissas);
            }
            if upwards {
                (above, up) = (above + 1, inside);
            } else {
                (below, down) = (below - 1, inside);
            }
        }
    }

    /// Offers the code with its exact error.
    fn offer(&mut self, exponent: usize, mantissas: [i8; MAX_RANK]) {
        let step = self.fitter.steps[exponent];
        let mut error = 0.0;
        for (i, row) in self.basis.rows[..self.fitter.shape.weights].iter().enumerate() {
            let mut sum = 0.0;
            for (u, m) in row.iter().zip(mantissas) {
                sum += u * f64::from(m);
            }
            let difference = self.target.weights[i] - step * sum;
            error += self.target.importance[i] * (difference * difference);
        }
        self.best.offer(error, Code { seed: self.seed, exponent: exponent as u8, mantissas });
    }
}
