//! Singular values and vectors: all of them, or the largest from a random block.
//!
//! Every product and decomposition here is faer's, sequential. faer selects its instructions by the
//! CPU, so other CPUs may compute other last bits. On one CPU the bits are always the same, since
//! faer's own buffers always have the same alignment.

use codec_api::rand_xoshiro::rand_core::Rng;
use codec_api::util::first_non_finite;
use codec_api::{CodecError, EncodeCx, Result};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply,
};
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Accum, Conj, Mat, MatRef, Par, Spec};

use crate::keys::Method;
use crate::matrix::Matrix;

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
const ROUNDING: f32 = 16.0 * f32::EPSILON;

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
        let a = self.matrix.transposed.as_ref();
        let shorter = a.nrows().min(a.ncols());
        let randomised = match self.method {
            Method::Auto => shorter > LARGE,
            Method::Exact => false,
            Method::Randomised => true,
        };
        let block = self.wanted.saturating_add(OVERSAMPLING);
        self.wanted = self.wanted.saturating_mul(2);
        if !randomised || block > shorter / 3 {
            let (s, v, u) = thin_svd(a)?;
            let energy = s.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
            return Ok(Triples { s, u, v, energy, all: true });
        }
        self.sketch(a, block)
    }

    /// Halko, Martinsson and Tropp, algorithms 4.4 and 5.1, with random signs instead of Gaussian
    /// numbers.
    fn sketch(&self, a: MatRef<'_, f32>, block: usize) -> Result<Triples> {
        let mut rng = self.cx.rng(block as u64);
        let signs = Mat::from_fn(a.nrows(), block, |_, _| if rng.next_u64() >> 63 == 0 { 1.0 } else { -1.0 });
        let mut q = orthonormal(product(a.transpose(), signs.as_ref()))?;
        for _ in 0..POWER_ITERATIONS {
            self.cx.cancel.check()?;
            let back = orthonormal(product(a, q.as_ref()))?;
            q = orthonormal(product(a.transpose(), back.as_ref()))?;
        }
        self.cx.cancel.check()?;
        let (s, v, inside) = thin_svd(product(a, q.as_ref()).as_ref())?;
        let u = product(q.as_ref(), inside.as_ref());
        Ok(Triples { s, u, v, energy: self.matrix.energy, all: false })
    }
}

/// Singular values, left and right vectors of `a`.
fn thin_svd(a: MatRef<'_, f32>) -> Result<(Vec<f32>, Mat<f32>, Mat<f32>)> {
    let (rows, columns) = (a.nrows(), a.ncols());
    let size = rows.min(columns);
    let (mut s, mut u, mut v) = (Diag::zeros(size), Mat::zeros(rows, size), Mat::zeros(columns, size));
    let thin = ComputeSvdVectors::Thin;
    let mut memory = scratch(svd_scratch::<f32>(rows, columns, thin, thin, Par::Seq, Spec::default()))?;
    let (into_u, into_v) = (Some(u.as_mut()), Some(v.as_mut()));
    let done = svd(a, s.as_mut(), into_u, into_v, Par::Seq, MemStack::new(&mut memory), Spec::default());
    let s: Vec<f32> = s.column_vector().iter().copied().collect();
    let finite = |m: &Mat<f32>| (0..size).all(|k| first_non_finite(m.col_as_slice(k)).is_none());
    if done.is_err() || first_non_finite(&s).is_some() || !finite(&u) || !finite(&v) {
        let reason = format!("the singular value decomposition of a {rows} x {columns} matrix does not converge: size");
        return Err(CodecError::Unsuitable { reason, number: size as f64 });
    }
    Ok((s, u, v))
}

/// An orthonormal basis of the columns of `a`; there must be fewer columns than rows.
fn orthonormal(mut a: Mat<f32>) -> Result<Mat<f32>> {
    let (rows, columns) = (a.nrows(), a.ncols());
    let block = recommended_block_size::<f32>(rows, columns);
    let mut factor = Mat::zeros(block, columns);
    let need = qr_in_place_scratch::<f32>(rows, columns, block, Par::Seq, Spec::default());
    let mut memory = scratch(need.or(apply_scratch::<f32>(rows, block, columns)))?;
    let stack = MemStack::new(&mut memory);
    qr_in_place(a.as_mut(), factor.as_mut(), Par::Seq, stack, Spec::default());
    let mut q = Mat::identity(rows, columns);
    apply(a.as_ref(), factor.as_ref(), Conj::No, q.as_mut(), Par::Seq, stack);
    Ok(q)
}

fn product(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Mat<f32> {
    let mut c = Mat::zeros(a.nrows(), b.ncols());
    matmul(&mut c, Accum::Replace, a, b, 1.0, Par::Seq);
    c
}

fn scratch(need: StackReq) -> Result<MemBuffer> {
    MemBuffer::try_new(need).map_err(|_| CodecError::Limit(format!("no memory for a decomposition: {need:?}")))
}
