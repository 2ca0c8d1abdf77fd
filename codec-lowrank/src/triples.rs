//! Singular values and vectors: all of them, or the largest by way of a random block.
//!
//! Every product and decomposition here is faer's, sequential. It chooses its instructions by the CPU, so that other CPUs may
//! find other last bits; on one CPU the bits are the same always, since faer's own buffers are always aligned alike.

use codec_api::rand_xoshiro::rand_core::Rng;
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

/// Shorter sides above this are decomposed by way of a random block if the header leaves the choice.
const LARGE: usize = 2048;
/// Vectors of a random block beyond those that are wanted.
const OVERSAMPLING: usize = 10;
/// Times that a random block goes through the matrix and back, to turn it towards the largest components.
const POWER_ITERATIONS: usize = 2;
/// Components to begin with where their number is not known.
pub(crate) const FIRST_BLOCK: usize = 64;
/// Singular values below this part of the largest are rounding: faer's errors on matrices of exact low rank are smaller.
const ROUNDING: f32 = 16.0 * f32::EPSILON;

/// Singular values, largest first, and their vectors as columns.
pub(crate) struct Triples {
    pub(crate) s: Vec<f32>,
    /// As long as the matrix has rows.
    pub(crate) u: Mat<f32>,
    /// As long as the matrix has columns.
    pub(crate) v: Mat<f32>,
    /// `Σ s²` over all components of the matrix, whether they are here or not.
    pub(crate) energy: f64,
    /// Whether all components of the matrix are here.
    pub(crate) all: bool,
}

impl Triples {
    /// How many components are certain: a random block's last ones only help the others.
    pub(crate) fn certain(&self) -> usize {
        if self.all { self.s.len() } else { self.s.len() - OVERSAMPLING }
    }

    /// How many components are more than rounding errors; at least 1.
    pub(crate) fn significant(&self) -> usize {
        self.s.iter().take_while(|s| **s > ROUNDING * self.s[0]).count().max(1)
    }

    /// The share of the energy that is not in the first `rank` components.
    pub(crate) fn left(&self, rank: usize) -> f64 {
        let kept: f64 = self.s[..rank].iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
        1.0 - kept / self.energy
    }

    /// The fewest components that leave at most `rest` of the energy, or else how many it takes at least: what comes after the
    /// certain ones is not larger than they are.
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
            // What is left is rounding.
            return Ok(candidates.len());
        }
        let last = f64::from(candidates[candidates.len() - 1]);
        Err(candidates.len() + ((left - rest * self.energy) / (last * last)).ceil() as usize)
    }
}

/// Decompositions of one matrix, each with more components than the one before; the last has all.
pub(crate) struct Decompositions<'a> {
    matrix: &'a Matrix,
    method: Method,
    /// Components that the next one has at least.
    wanted: usize,
    cx: &'a EncodeCx<'a>,
}

impl<'a> Decompositions<'a> {
    /// Begins with `wanted` components.
    pub(crate) fn new(matrix: &'a Matrix, method: Method, wanted: usize, cx: &'a EncodeCx<'a>) -> Self {
        Self { matrix, method, wanted, cx }
    }

    /// The next one, with `needed` components or more; not to be called after the one that has all.
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

    /// Halko, Martinsson and Tropp, algorithms 4.4 and 5.1, with random signs for the Gaussian numbers.
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
    let finite = |m: &Mat<f32>| (0..size).all(|k| codec_api::first_non_finite(m.col_as_slice(k)).is_none());
    if done.is_err() || codec_api::first_non_finite(&s).is_some() || !finite(&u) || !finite(&v) {
        let reason = format!("the singular value decomposition of a {rows} x {columns} matrix does not converge: size");
        return Err(CodecError::Unsuitable { reason, number: size as f64 });
    }
    Ok((s, u, v))
}

/// An orthonormal basis of the columns of `a`, which are fewer than its rows.
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

#[cfg(test)]
mod tests {
    use codec_api::{Bounded, Codec, Dtype, TensorSpec};

    use super::*;
    use crate::{Keep, Svd};

    #[test]
    fn the_memory_of_a_decomposition_is_foretold() {
        let codec = Svd::new(Box::new(codec_quant::Cast::default()), Keep::Rank(Bounded::at::<8>()));
        for shape in [[768, 768], [3072, 768], [768, 3072], [4096, 4096], [4096, 11008]] {
            let [rows, columns] = shape;
            let thin = ComputeSvdVectors::Thin;
            let svd = svd_scratch::<f32>(columns, rows, thin, thin, Par::Seq, Spec::default());
            let vectors = rows.min(columns) * (rows + columns);
            let taken = 4 * (rows * columns + vectors) + svd.unaligned_bytes_required();
            let foretold = codec.cost(&TensorSpec::new(Dtype::F32, shape).expect("a small shape")).scratch_bytes;
            let share = foretold as f64 / taken as f64;
            assert!((1.0..1.5).contains(&share), "{rows} x {columns}: {foretold} bytes foretold, {taken} taken");
        }
    }
}
