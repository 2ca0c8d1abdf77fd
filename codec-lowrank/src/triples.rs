//! Singular values and vectors: all of them, or the largest from a random block.
//!
//! Every product and decomposition is faer's, sequential. faer selects its instructions by the CPU,
//! so other CPUs may compute other last bits. On one CPU the bits are always the same, since faer's
//! own buffers always have the same alignment.

use codec_api::rand_xoshiro::rand_core::Rng;
use codec_api::{EncodeCx, Result};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use crate::check::{Claim, Probes, deviation};
use crate::keys::Method;
use crate::matrix::Matrix;
use crate::thin::{Parts, TOLERANCE, orthonormal, thin_svd};

/// With `method=auto`, matrices with a shorter side above this use a random block.
const LARGE: usize = 2048;
/// Extra vectors of a random block beyond the requested components.
const OVERSAMPLING: usize = 10;
/// Number of times that a random block is multiplied by the matrix and back, to turn it towards the
/// largest components.
const POWER_ITERATIONS: usize = 2;
/// Components in the first try, if their number is not known.
pub(crate) const FIRST_BLOCK: usize = 64;
/// Singular values below this fraction of the largest are rounding errors; faer's errors on
/// matrices of exact low rank are smaller.
pub(crate) const ROUNDING: f32 = 16.0 * f32::EPSILON;

/// Singular values, largest first, and their vectors as columns.
pub(crate) struct Triples {
    pub(crate) s: Vec<f32>,
    /// One column per component, with one element per row of the matrix.
    pub(crate) u: Mat<f32>,
    /// One column per component, with one element per column of the matrix.
    pub(crate) v: Mat<f32>,
    /// `Σ s²` over all components of the matrix, including those not computed.
    pub(crate) energy: f64,
    /// Whether these are all components of the matrix.
    pub(crate) all: bool,
}

impl Triples {
    /// Number of reliable components: the last ones of a random block only improve the others.
    pub(crate) fn certain(&self) -> usize {
        if self.all { self.s.len() } else { self.s.len() - OVERSAMPLING }
    }

    /// Number of components that are more than rounding errors; at least 1.
    pub(crate) fn significant(&self) -> usize {
        self.s.iter().take_while(|s| **s > ROUNDING * self.s[0]).count().max(1)
    }

    /// The share of the energy outside the first `rank` components.
    pub(crate) fn left(&self, rank: usize) -> f64 {
        let kept: f64 = self.s[..rank].iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
        1.0 - kept / self.energy
    }

    /// The smallest number of components that leave at most `rest` of the energy; an error with a
    /// lower bound of that number if the reliable components do not suffice. The bound assumes that
    /// later components are not larger.
    pub(crate) fn leaving(&self, rest: f64) -> Result<usize, usize> {
        let candidates = &self.s[..self.significant().min(self.certain())];
        let mut left = self.energy;
        for (k, s) in candidates.iter().enumerate() {
            left -= f64::from(*s) * f64::from(*s);
            if left <= rest * self.energy {
                return Ok(k + 1);
            }
        }
        if self.all {
            // Only rounding errors remain.
            return Ok(candidates.len());
        }
        let last = f64::from(candidates[candidates.len() - 1]);
        Err(candidates.len() + ((left - rest * self.energy) / (last * last)).ceil() as usize)
    }
}

/// Decompositions of one matrix, each with more components than the previous one; the last has all.
pub(crate) struct Decompositions<'a> {
    matrix: &'a Matrix,
    method: Method,
    /// Minimum number of components of the next decomposition.
    wanted: usize,
    cx: &'a EncodeCx<'a>,
}

impl<'a> Decompositions<'a> {
    /// Starts with `wanted` components.
    pub(crate) fn new(matrix: &'a Matrix, method: Method, wanted: usize, cx: &'a EncodeCx<'a>) -> Self {
        Self { matrix, method, wanted, cx }
    }

    /// The next decomposition, with at least `needed` components; must not be called after the one
    /// with all.
    pub(crate) fn next(&mut self, needed: usize) -> Result<Triples> {
        self.cx.cancel.check()?;
        self.wanted = self.wanted.max(needed);
        let a = &self.matrix.transposed;
        let shorter = a.nrows().min(a.ncols());
        let randomised = match self.method {
            Method::Auto => shorter > LARGE,
            Method::Exact => false,
            Method::Randomised => true,
        };
        let block = self.wanted.saturating_add(OVERSAMPLING);
        self.wanted = self.wanted.saturating_mul(2);
        if randomised
            && block <= shorter / 3
            && let Some(largest) = self.sketch(a, block)?
        {
            return Ok(largest);
        }
        let Parts { s, left: v, right: u } = thin_svd(a, &mut Probes::new(self.cx))?;
        let energy = s.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
        Ok(Triples { s, u, v, energy, all: true })
    }

    /// Halko, Martinsson and Tropp, algorithms 4.4 and 5.1, with random signs instead of Gaussian
    /// numbers. `None` if the result does not pass the check.
    fn sketch(&self, a: &Mat<f32>, block: usize) -> Result<Option<Triples>> {
        let mut rng = self.cx.rng(block as u64);
        let signs = Mat::from_fn(a.nrows(), block, |_, _| if rng.next_u64() >> 63 == 0 { 1.0 } else { -1.0 });
        let mut q = orthonormal(&product(a.transpose(), signs.as_ref()))?;
        for _ in 0..POWER_ITERATIONS {
            self.cx.cancel.check()?;
            let back = orthonormal(&product(a.as_ref(), q.as_ref()))?;
            q = orthonormal(&product(a.transpose(), back.as_ref()))?;
        }
        self.cx.cancel.check()?;
        let probes = &mut Probes::new(self.cx);
        let Parts { s, left, right: inside } = thin_svd(&product(a.as_ref(), q.as_ref()), probes)?;
        let parts = Parts { s, left, right: product(q.as_ref(), inside.as_ref()) };
        let good = deviation(a, &parts, Claim::Some, probes) <= TOLERANCE;
        let Parts { s, left: v, right: u } = parts;
        Ok(good.then_some(Triples { s, u, v, energy: self.matrix.energy, all: false }))
    }
}

fn product(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Mat<f32> {
    let mut c = Mat::zeros(a.nrows(), b.ncols());
    matmul(&mut c, Accum::Replace, a, b, 1.0, Par::Seq);
    c
}
