//! Products of rows of stored weights with one vector.

use bytemuck::Pod;
use simd::{Kernel, LANES, Simd, dispatch, lanes, load, sum};

/// A stored float.
pub(crate) trait Stored: Pod + Default + Send + Sync + std::fmt::Debug {
    /// Converts sixteen values, without loss.
    fn widen<S: Simd>(simd: S, values: &[Self; LANES]) -> [f32; LANES];
}

impl Stored for f32 {
    #[inline(always)]
    fn widen<S: Simd>(_: S, values: &[Self; LANES]) -> [f32; LANES] {
        *values
    }
}

/// A BF16 value.
#[derive(Clone, Copy, Debug, Default, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub(crate) struct Bf16(u16);

/// An F16 value.
#[derive(Clone, Copy, Debug, Default, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub(crate) struct F16(u16);

impl Stored for Bf16 {
    #[inline(always)]
    fn widen<S: Simd>(simd: S, values: &[Self; LANES]) -> [f32; LANES] {
        simd.bf16_to_f32(&lanes!(i => values[i].0))
    }
}

impl Stored for F16 {
    #[inline(always)]
    fn widen<S: Simd>(simd: S, values: &[Self; LANES]) -> [f32; LANES] {
        simd.f16_to_f32(&lanes!(i => values[i].0))
    }
}

/// `y[r] = Σ rows[r][i]·x[i]` for each row of `x.len()` weights. The order of the additions is that
/// of [`codec_api::RowsLinear`], so that both give the same bits.
pub(crate) fn dots<T: Stored>(rows: &[T], x: &[f32], y: &mut [f32]) {
    dispatch(Dots { rows, x, y });
}

struct Dots<'a, T> {
    rows: &'a [T],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<T: Stored> Kernel for Dots<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (row, y) in self.rows.chunks_exact(self.x.len().max(1)).zip(self.y) {
            *y = dot(simd, row, self.x);
        }
    }
}

/// A product with four times sixteen partial sums, so that an addition need not wait for the one
/// before.
#[inline(always)]
fn dot<S: Simd, T: Stored>(simd: S, row: &[T], x: &[f32]) -> f32 {
    let ((row, last_row), (x, last_x)) = (row[..x.len()].as_chunks(), x.as_chunks());
    let ((row, rest_row), (x, rest_x)) = (row.as_chunks(), x.as_chunks());
    let (mut a, mut b, mut c, mut d) = ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for ([row0, row1, row2, row3], [x0, x1, x2, x3]) in row.iter().zip(x) {
        a = add(simd, &a, row0, x0);
        b = add(simd, &b, row1, x1);
        c = add(simd, &c, row2, x2);
        d = add(simd, &d, row3, x3);
    }
    for (row, x) in rest_row.iter().zip(rest_x) {
        a = add(simd, &a, row, x);
    }
    a = add(simd, &a, &load(last_row), &load(last_x));
    sum(simd.add(&simd.add(&a, &b), &simd.add(&c, &d)))
}

#[inline(always)]
fn add<S: Simd, T: Stored>(simd: S, sums: &[f32; LANES], row: &[T; LANES], x: &[f32; LANES]) -> [f32; LANES] {
    let row = T::widen(simd, row);
    simd.add(sums, &lanes!(i => row[i] * x[i]))
}
