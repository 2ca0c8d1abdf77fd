//! The factors of a payload: validation, decoding, and multiplication.

use codec_api::{Cancel, DecodeCx, Dtype, PayloadView, Result, TensorSpec, first_non_finite};

use crate::keys::Svd;
use crate::matrix::power_of_two;
use crate::size::Sizes;

/// Rows of the matrix computed between two checks for cancellation.
const BLOCK: usize = 128;
/// Rows and columns of a tile of sums kept in registers: eight of AVX2's sixteen, or four of
/// AVX-512's.
const HEIGHT: usize = 4;
const WIDTH: usize = 8;

/// `W ≈ Σ s_k u_k v_kᵀ`.
#[derive(Debug)]
pub(crate) struct Factors {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Singular values without the factor of 2^`exponent`.
    pub(crate) s: Vec<f32>,
    pub(crate) exponent: i16,
    /// The left vectors, concatenated; each has one element per row of the matrix.
    pub(crate) u: Vec<f32>,
    /// The right vectors, concatenated; each has one element per column of the matrix.
    pub(crate) v: Vec<f32>,
}

impl Factors {
    pub(crate) fn read(codec: &Svd, spec: &TensorSpec, payload: &PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Self> {
        let sizes = Sizes::new(&*codec.inner, spec);
        let rank = payload.section("s")?.spec().elements();
        let s: Vec<f32> = payload.values("s", Dtype::F32, &[rank])?;
        if !(1..=sizes.below_break_even()).contains(&rank) {
            let even = sizes.break_even();
            return Err(payload.corrupt("s", format!("rank {rank}: it is at least 1 and below {even:.3}, break-even")));
        }
        if let Some(k) = first_non_finite(&s) {
            return Err(payload.corrupt("s", format!("singular value {k} is not finite")));
        }
        let exponent = payload.values::<i16>("exponent", Dtype::I16, &[1])?[0];
        if !(-149..=127).contains(&exponent) {
            return Err(payload.corrupt("exponent", format!("{exponent} is beyond the range of f32")));
        }
        let [of_u, of_v] = sizes.factors(rank)?;
        let u = vectors(codec, "u", &of_u, payload, cx)?;
        let v = vectors(codec, "v", &of_v, payload, cx)?;
        Ok(Self { rows: sizes.rows, columns: sizes.columns, s, exponent, u, v })
    }

    /// The singular values with the factor.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.s.iter().map(|s| f64::from(*s) * power_of_two(self.exponent))
    }

    /// Writes the matrix: each weight is a sum in f64 over `k` ascending, rounded once.
    pub(crate) fn multiply(&self, cancel: &Cancel, out: &mut [f32]) -> Result<()> {
        let values: Vec<f64> = self.values().collect();
        let mut left = vec![0.0; BLOCK.min(self.rows).next_multiple_of(HEIGHT) * values.len()];
        let mut right = vec![0.0; WIDTH * values.len()];
        for (block, out) in out.chunks_mut(BLOCK * self.columns).enumerate() {
            cancel.check()?;
            self.pack(block * BLOCK, out.len() / self.columns, &values, &mut left);
            multiply_block(&left, &self.v, self.columns, &mut right, out);
        }
        Ok(())
    }

    /// Packs the products `s_k u_ki` of `rows` rows starting at `first`, in tiles of [`HEIGHT`]
    /// rows; rows beyond the matrix are zeros.
    fn pack(&self, first: usize, rows: usize, values: &[f64], left: &mut [f64]) {
        let tiles = left.chunks_exact_mut(HEIGHT * values.len());
        for (tile, row) in tiles.zip((first..first + rows).step_by(HEIGHT)) {
            let height = HEIGHT.min(first + rows - row);
            for ((to, s), u) in tile.chunks_exact_mut(HEIGHT).zip(values).zip(self.u.chunks_exact(self.rows)) {
                to.fill(0.0);
                for (to, u) in to.iter_mut().zip(&u[row..row + height]) {
                    *to = s * f64::from(*u);
                }
            }
        }
    }
}

/// Decodes the vectors of one scope. The size of the sections is checked against their cost before
/// memory is allocated.
fn vectors(
    codec: &Svd,
    scope: &str,
    spec: &TensorSpec,
    payload: &PayloadView<'_>,
    cx: &DecodeCx<'_>,
) -> Result<Vec<f32>> {
    codec.inner.accepts(spec)?;
    let (view, allowed) = (payload.scoped(scope), codec.inner.cost(spec).bytes);
    let bytes = view.total_bytes();
    if !allowed.contains(&bytes) {
        let (least, most) = (allowed.start(), allowed.end());
        return Err(payload.corrupt(scope, format!("{bytes} bytes in all; vectors {spec} take {least} to {most}")));
    }
    let mut values = vec![0.0; spec.elements()];
    codec.inner.decode(spec, view, &cx.for_child(), &mut values)?;
    match first_non_finite(&values) {
        Some(index) => Err(payload.corrupt(scope, format!("element {index} is not finite"))),
        None => Ok(values),
    }
}

simd::kernel! {
    /// Computes some rows of the matrix, `columns` wide: tile by tile of packed left vectors, panel
    /// by panel of right vectors.
    fn multiply_block<'a>(_simd, left: &'a [f64], v: &'a [f32], columns: usize, right: &'a mut [f64], out: &'a mut [f32]) {
        for column in (0..columns).step_by(WIDTH) {
            let width = WIDTH.min(columns - column);
            for (panel, v) in right.as_chunks_mut::<WIDTH>().0.iter_mut().zip(v.chunks_exact(columns)) {
                if let Some(v) = v[column..].first_chunk::<WIDTH>() {
                    for j in 0..WIDTH {
                        panel[j] = f64::from(v[j]);
                    }
                } else {
                    panel.fill(0.0);
                    for (to, v) in panel.iter_mut().zip(&v[column..]) {
                        *to = f64::from(*v);
                    }
                }
            }
            let tiles = left.chunks_exact(right.len() / WIDTH * HEIGHT);
            for (tile, out) in tiles.zip(out.chunks_mut(HEIGHT * columns)) {
                let sums = multiply_tile(tile, right);
                for (sums, out) in sums.iter().zip(out.chunks_exact_mut(columns)) {
                    let out = &mut out[column..column + width];
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
}

#[inline(always)]
fn multiply_tile(left: &[f64], right: &[f64]) -> [[f64; WIDTH]; HEIGHT] {
    // One variable for the sums of each row: a compiler may keep a single array in memory.
    let (mut a, mut b, mut c, mut d) = ([0.0; WIDTH], [0.0; WIDTH], [0.0; WIDTH], [0.0; WIDTH]);
    for (l, r) in left.as_chunks::<HEIGHT>().0.iter().zip(right.as_chunks::<WIDTH>().0) {
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
