//! Multiplying with two-bit ternary codes: inputs are added, subtracted or left out, then scaled
//! once.

use codec_api::{Bytes, Dtype, LinearKernel, LinearOp, PayloadView, Result, TensorSpec, check_batch};
use simd::{LANES, Simd, kernel, lanes, load, sum};

use super::Ternary2;
use super::ternary2::{GROUP, PLANES, row_len};
use crate::Scope;

/// A checked payload.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) rows: usize,
    pub(super) columns: usize,
    codes: Bytes,
    scales: Vec<f32>,
}

impl Prepared {
    pub(super) fn read(scope: Scope, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let (rows, columns) = spec.matrix();
        let codes = payload.bytes("codes", Dtype::U8, &[rows, columns.div_ceil(GROUP), LANES])?.clone();
        let scales: Vec<f32> = payload.values("scale", Dtype::F32, &[scope.scales(rows)])?;
        if codes.iter().fold(0, |both, byte| both | byte & byte >> 1) & 0x55 != 0 {
            return Err(payload.corrupt("codes", "a code is 3"));
        }
        if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(payload.corrupt("scale", format!("{scale} is not finite")));
        }
        Ok(Self { rows, columns, codes, scales })
    }

    #[inline(always)]
    pub(super) fn codes(&self, row: usize) -> &[u8] {
        &self.codes[row * row_len(self.columns)..][..row_len(self.columns)]
    }

    #[inline(always)]
    pub(super) fn scale(&self, row: usize) -> f32 {
        self.scales[row.min(self.scales.len() - 1)]
    }
}

impl LinearKernel for Ternary2 {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        Ok(Box::new(Prepared::read(self.scope, spec, &payload)?))
    }
}

impl LinearOp for Prepared {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        check_batch((self.rows, self.columns), x, y)?;
        multiply(self, x, y);
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        // Roundings of an input: one addition for each group, 2 of planes, 4 in the tree, and the
        // scale.
        (self.columns.div_ceil(GROUP) + 7) as f32 * f32::EPSILON
    }

    fn resident_bytes(&self) -> u64 {
        (self.codes.len() + size_of_val(self.scales.as_slice())) as u64
    }
}

kernel! {
    fn multiply<'a>(simd, matrix: &'a Prepared, x: &'a [f32], y: &'a mut [f32]) {
        for row in 0..matrix.rows {
            let (codes, scale) = (matrix.codes(row), matrix.scale(row));
            for (x, y) in x.chunks(matrix.columns).zip(y.chunks_mut(matrix.rows)) {
                y[row] = signed_sum(simd, codes, x) * scale;
            }
        }
    }
}

/// The sum of the inputs with positive weights minus that of the inputs with negative weights.
#[inline(always)]
fn signed_sum<S: Simd>(simd: S, codes: &[u8], x: &[f32]) -> f32 {
    let mut sums = [[0.0; LANES]; PLANES];
    let (groups, rest) = x.as_chunks::<GROUP>();
    let (full, last) = codes.split_at(groups.len() * LANES);
    for (x, bytes) in groups.iter().zip(full.as_chunks().0) {
        sums = with_group(simd, sums, x, bytes);
    }
    if !rest.is_empty() {
        let mut x = [0.0; GROUP];
        x[..rest.len()].copy_from_slice(rest);
        sums = with_group(simd, sums, &x, &load(last));
    }
    sum(lanes!(i => (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i])))
}

/// Passing the sums by value keeps them in registers.
#[inline(always)]
fn with_group<S: Simd>(
    simd: S,
    sums: [[f32; LANES]; PLANES],
    x: &[f32; GROUP],
    bytes: &[u8; LANES],
) -> [[f32; LANES]; PLANES] {
    /// The look-up uses the low 4 bits; the table repeats, so bits 2–3 do not matter. A product
    /// with a sign is exact.
    const SIGNS: [f32; LANES] = [-1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0];
    let x = x.as_chunks::<LANES>().0;
    let mut next = sums;
    for plane in 0..PLANES {
        let signs = simd.lookup16(&SIGNS, &lanes!(i => bytes[i] >> (2 * plane)));
        next[plane] = lanes!(i => sums[plane][i] + signs[i] * x[plane][i]);
    }
    next
}
