//! Thin decompositions of a matrix, and orthonormal bases of its columns: faer's kernels, with a
//! check of what they return.
//!
//! # Limits of the foreign kernels
//! - faer's QR decomposition drops a column if its part outside the span of the earlier columns is
//!   below `16·m·ε` of its norm, where `m` is the number of rows. In f32 this fraction is 0.8 % for
//!   4096 rows, and above 1 from 2¹⁹ rows on: then no column is left. The decomposition has an
//!   error of this size, and no status tells. `svd` starts with a QR decomposition if one side is
//!   more than 11/6 of the other. Here, a QR decomposition is only computed in f64 and of short
//!   blocks, where the fraction is below 10⁻¹⁰.
//! - `svd` reports an error if an iteration does not converge. It checks neither residual nor
//!   orthonormality. So [`deviation`] measures both after every decomposition.
//! - `matmul` has no limit; it sums in f32. Products with more terms than a matrix has rows or
//!   columns do not occur, and the same check covers the products that reach a payload.
//! - The sizes of scratch memory come from faer's own functions, and the memory is allocated before
//!   a kernel runs.

use codec_api::{CodecError, Result};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::traits::RealField;
use faer::{Accum, Mat, MatRef, Par, Spec};

use crate::check::{Claim, Probes, deviation};

/// Maximum relative residual, and maximum deviation from orthonormal vectors. Decompositions in f32
/// are off by about 10⁻⁶ to 10⁻⁵.
pub(crate) const TOLERANCE: f64 = 1.0 / (1u64 << 15) as f64;
/// From this side on, faer's QR decomposition in f32 drops every column.
const ALL_DROPPED: usize = 1 << 19;
/// Least number of rows of a block.
const LEAST_BLOCK: usize = 512;
/// Components below this fraction of the largest are less than the rounding of f32.
const NEGLIGIBLE: f64 = 1.0 / (1u64 << 24) as f64;

/// `A = left · diag(s) · rightᵀ`, with the vectors as columns; `s` is in descending order.
pub(crate) struct Parts {
    pub(crate) s: Vec<f32>,
    pub(crate) left: Mat<f32>,
    pub(crate) right: Mat<f32>,
}

/// Rows of a block, for a matrix with this many rows and columns.
pub(crate) fn block_rows(rows: usize, columns: usize) -> usize {
    rows.min(LEAST_BLOCK.max(2 * columns))
}

/// All components of `a`: faer's in f32 if they pass the check, otherwise by blocks in f64.
pub(crate) fn thin_svd(a: &Mat<f32>, probes: &mut Probes) -> Result<Parts> {
    if a.nrows().max(a.ncols()) < ALL_DROPPED
        && let Some((s, left, right)) = faer_svd(a.as_ref(), true)?
    {
        let parts = Parts { s, left, right };
        if deviation(a, &parts, Claim::All, probes) <= TOLERANCE {
            return Ok(parts);
        }
    }
    let parts = by_blocks(a.as_ref())?;
    let off = deviation(a, &parts, Claim::All, probes);
    if off <= TOLERANCE {
        return Ok(parts);
    }
    let (rows, columns) = a.shape();
    let reason = format!(
        "the singular value decomposition of a {rows} x {columns} matrix is off by more than {TOLERANCE:.1e}; another \
         codec is needed: relative error"
    );
    Err(CodecError::Unsuitable { reason, number: off })
}

/// An orthonormal basis of the columns of `a`, which must have at least as many rows. If they span
/// fewer dimensions than there are columns, to the accuracy of f32, the last ones are zeros.
pub(crate) fn orthonormal(a: &Mat<f32>) -> Result<Mat<f32>> {
    Ok(by_blocks(a.as_ref())?.left)
}

/// All components of `a`, from the triangle of a QR decomposition: with `A = Q·R` and
/// `R = X·diag(s)·Vᵀ`, the columns of `A·V` are those of `Q·X`, times `s`. The blocks and the
/// triangle are in f64, so the vectors of a component are off by about `10⁻¹⁵·s₁/s`. Components
/// that are negligible become zeros on the longer side.
fn by_blocks(a: MatRef<'_, f32>) -> Result<Parts> {
    let tall = if a.nrows() < a.ncols() { a.transpose() } else { a };
    let (rows, columns) = tall.shape();
    let Some((mut s, _, short)) = faer_svd(triangle(tall)?.as_ref(), false)? else {
        let reason = format!(
            "the singular value decomposition of a {rows} x {columns} matrix does not converge; another codec is \
             needed: size"
        );
        return Err(CodecError::Unsuitable { reason, number: columns as f64 });
    };
    let least = NEGLIGIBLE * s.first().copied().unwrap_or(0.0);
    s.iter_mut().filter(|s| **s <= least).for_each(|s| *s = 0.0);
    let unscaled = Mat::from_fn(columns, columns, |i, k| if s[k] > 0.0 { short[(i, k)] / s[k] } else { 0.0 });
    let short = Mat::from_fn(columns, columns, |i, k| short[(i, k)] as f32);
    let mut long = Mat::zeros(rows, columns);
    let height = block_rows(rows, columns);
    for first in (0..rows).step_by(height) {
        let count = height.min(rows - first);
        let mut of_a = Mat::zeros(count, columns);
        copy(tall, first, &mut of_a, 0);
        let mut vectors = Mat::zeros(count, columns);
        matmul(&mut vectors, Accum::Replace, &of_a, &unscaled, 1.0, Par::Seq);
        for k in 0..columns {
            let to = &mut long.col_as_slice_mut(k)[first..first + count];
            to.iter_mut().zip(vectors.col_as_slice(k)).for_each(|(to, from)| *to = *from as f32);
        }
    }
    let s = s.iter().map(|s| *s as f32).collect();
    let (left, right) = if a.nrows() < a.ncols() { (short, long) } else { (long, short) };
    Ok(Parts { s, left, right })
}

/// The triangle of a QR decomposition: each block of rows goes below the triangle of the blocks
/// before it.
fn triangle(tall: MatRef<'_, f32>) -> Result<Mat<f64>> {
    let (rows, columns) = tall.shape();
    let mut triangle = Mat::<f64>::zeros(columns, columns);
    let height = block_rows(rows, columns);
    for first in (0..rows).step_by(height) {
        let count = height.min(rows - first);
        let mut stacked = Mat::zeros(columns + count, columns);
        for j in 0..columns {
            stacked.col_as_slice_mut(j)[..columns].copy_from_slice(triangle.col_as_slice(j));
        }
        copy(tall, first, &mut stacked, columns);
        let block = recommended_block_size::<f64>(columns + count, columns);
        let mut factor = Mat::zeros(block, columns);
        let need = qr_in_place_scratch::<f64>(columns + count, columns, block, Par::Seq, Spec::default());
        let mut memory = scratch(need)?;
        qr_in_place(stacked.as_mut(), factor.as_mut(), Par::Seq, MemStack::new(&mut memory), Spec::default());
        for j in 0..columns {
            triangle.col_as_slice_mut(j)[..=j].copy_from_slice(&stacked.col_as_slice(j)[..=j]);
        }
    }
    Ok(triangle)
}

/// Copies rows of `from`, beginning with `first`, to the rows of `to` that begin with `at`.
fn copy(from: MatRef<'_, f32>, first: usize, to: &mut Mat<f64>, at: usize) {
    for j in 0..from.ncols() {
        let to = &mut to.col_as_slice_mut(j)[at..];
        let rows = from.col(j).subrows(first, to.len());
        to.iter_mut().zip(rows.iter()).for_each(|(to, from)| *to = f64::from(*from));
    }
}

/// Singular values, left vectors if wanted, and right vectors.
type Found<T> = (Vec<T>, Mat<T>, Mat<T>);

/// faer's decomposition; `None` if it does not converge or is not finite.
fn faer_svd<T: RealField + Copy + Into<f64>>(a: MatRef<'_, T>, with_left: bool) -> Result<Option<Found<T>>> {
    let (rows, columns) = a.shape();
    let size = rows.min(columns);
    let (mut s, mut right) = (Diag::zeros(size), Mat::zeros(columns, size));
    let mut left = Mat::zeros(rows, if with_left { size } else { 0 });
    let (thin, of_left) =
        (ComputeSvdVectors::Thin, if with_left { ComputeSvdVectors::Thin } else { ComputeSvdVectors::No });
    let mut memory = scratch(svd_scratch::<T>(rows, columns, of_left, thin, Par::Seq, Spec::default()))?;
    let into_left = with_left.then(|| left.as_mut());
    let stack = MemStack::new(&mut memory);
    let done = svd(a, s.as_mut(), into_left, Some(right.as_mut()), Par::Seq, stack, Spec::default());
    let s: Vec<T> = s.column_vector().iter().copied().collect();
    let finite = |m: &Mat<T>| (0..m.ncols()).all(|k| all_finite(m.col_as_slice(k)));
    let found = done.is_ok() && all_finite(&s) && finite(&left) && finite(&right);
    Ok(found.then_some((s, left, right)))
}

fn all_finite<T: Copy + Into<f64>>(values: &[T]) -> bool {
    values.iter().all(|value| (*value).into().is_finite())
}

fn scratch(need: StackReq) -> Result<MemBuffer> {
    MemBuffer::try_new(need).map_err(|_| CodecError::Limit(format!("no memory for a decomposition: {need:?}")))
}
