//! Rows of the matrix, from factors that are packed in tiles.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{DecodeCx, PayloadView, Result, RowReader, Rows, TensorSpec, check_rows};

use crate::factors::Factors;
use crate::keys::Svd;

/// Rows and columns of a tile of sums kept in registers: eight of AVX2's sixteen, or four of
/// AVX-512's.
const HEIGHT: usize = 4;
const WIDTH: usize = 8;
/// Rows that are multiplied with a panel of right vectors while it is in the cache.
pub(crate) const BLOCK: usize = 128;
/// Components whose right vectors are converted to f64 at a time.
const PIECE: usize = 128;

impl Rows for Svd {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(Tiles::new(&Factors::read(self, spec, &payload, cx)?)))
    }
}

/// The factors in the order in which a product needs them.
#[derive(Debug)]
pub(crate) struct Tiles {
    matrix: (usize, usize),
    rank: usize,
    /// The products `s_k u_ki`, which are exact in f64: for each tile of rows all `k`. Rows beyond
    /// the matrix are zeros.
    left: Vec<[f64; HEIGHT]>,
    /// The `v_kj`: for each panel of columns all `k`. Columns beyond the matrix are zeros.
    right: Vec<[f32; WIDTH]>,
}

impl Tiles {
    pub(crate) fn new(factors: &Factors) -> Self {
        let values: Vec<f64> = factors.values().collect();
        Self {
            matrix: (factors.rows, factors.columns),
            rank: values.len(),
            left: pack(&factors.u, factors.rows, |k, u| values[k] * f64::from(u)),
            right: pack(&factors.v, factors.columns, |_, v| v),
        }
    }

    /// f32 numbers that the packed factors of a matrix take; see [`Self::new`].
    pub(crate) fn size(rows: usize, columns: usize, rank: usize) -> usize {
        rank * (2 * rows.next_multiple_of(HEIGHT) + columns.next_multiple_of(WIDTH))
    }
}

/// Groups the elements of all vectors by place, `N` places at a time.
fn pack<const N: usize, T: Copy + Default>(
    vectors: &[f32],
    len: usize,
    value: impl Fn(usize, f32) -> T,
) -> Vec<[T; N]> {
    let mut packed = Vec::with_capacity(len.div_ceil(N) * (vectors.len() / len));
    for place in (0..len).step_by(N) {
        packed.extend(vectors.chunks_exact(len).enumerate().map(|(k, vector)| {
            let mut group = [T::default(); N];
            for (to, from) in group.iter_mut().zip(&vector[place..]) {
                *to = value(k, *from);
            }
            group
        }));
    }
    packed
}

impl RowReader for Tiles {
    fn shape(&self) -> (usize, usize) {
        self.matrix
    }

    fn granule(&self) -> NonZeroUsize {
        NonZeroUsize::new(HEIGHT).unwrap_or(NonZeroUsize::MIN)
    }

    /// Each weight is a sum in f64 over `k` ascending, rounded once.
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.matrix, &rows, out)?;
        let (_, columns) = self.matrix;
        for (block, out) in out.chunks_mut(BLOCK * columns).enumerate() {
            let first = rows.start + block * BLOCK;
            let last = first + out.len() / columns;
            let left = &self.left[first / HEIGHT * self.rank..last.div_ceil(HEIGHT) * self.rank];
            multiply_block(left, &self.right, self.rank, columns, first % HEIGHT, out);
        }
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        (size_of_val(self.left.as_slice()) + size_of_val(self.right.as_slice())) as u64
    }
}

simd::kernel! {
    /// Computes at most [`BLOCK`] rows of the matrix, panel by panel of right vectors and tile by
    /// tile of left vectors; the first `skipped` rows of the first tile are left out.
    fn multiply_block<'a>(
        _simd,
        left: &'a [[f64; HEIGHT]],
        right: &'a [[f32; WIDTH]],
        rank: usize,
        columns: usize,
        skipped: usize,
        out: &'a mut [f32],
    ) {
        let mut wide = [[0.0; WIDTH]; PIECE];
        let mut sums = [[[0.0; WIDTH]; HEIGHT]; BLOCK / HEIGHT + 1];
        for (panel, right) in right.chunks_exact(rank).enumerate() {
            for (piece, right) in right.chunks(PIECE).enumerate() {
                for (wide, r) in wide.iter_mut().zip(right) {
                    for j in 0..WIDTH {
                        wide[j] = f64::from(r[j]);
                    }
                }
                for (left, sums) in left.chunks_exact(rank).zip(&mut sums) {
                    let before = if piece == 0 { [[0.0; WIDTH]; HEIGHT] } else { *sums };
                    *sums = multiply_tile(before, &left[piece * PIECE..][..right.len()], &wide);
                }
            }
            let column = panel * WIDTH;
            for (sums, row) in sums.as_flattened()[skipped..].iter().zip(out.chunks_exact_mut(columns)) {
                let out = &mut row[column..columns.min(column + WIDTH)];
                if let Some(out) = out.first_chunk_mut::<WIDTH>() {
                    for j in 0..WIDTH {
                        out[j] = (sums[j] as f32).clamp(f32::MIN, f32::MAX);
                    }
                } else {
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = (*sum as f32).clamp(f32::MIN, f32::MAX);
                    }
                }
            }
        }
    }
}

/// Adds the products of some `k` to the sums of a tile.
#[inline(always)]
fn multiply_tile(
    sums: [[f64; WIDTH]; HEIGHT],
    left: &[[f64; HEIGHT]],
    right: &[[f64; WIDTH]],
) -> [[f64; WIDTH]; HEIGHT] {
    // One variable for the sums of each row: a compiler may keep a single array in memory.
    let [mut a, mut b, mut c, mut d] = sums;
    for (l, r) in left.iter().zip(right) {
        add_row(&mut a, l[0], r);
        add_row(&mut b, l[1], r);
        add_row(&mut c, l[2], r);
        add_row(&mut d, l[3], r);
    }
    [a, b, c, d]
}

#[inline(always)]
fn add_row(sums: &mut [f64; WIDTH], l: f64, r: &[f64; WIDTH]) {
    for j in 0..WIDTH {
        sums[j] += l * r[j];
    }
}
