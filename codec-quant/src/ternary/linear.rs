//! Multiplying with two-bit ternary codes: inputs are added, subtracted or left out, then scaled
//! once.

use codec_api::{LinearKernel, LinearOp, PayloadView, Result, TensorSpec, check_batch};
use simd::{LANES, Simd, kernel, lanes, load, sum};

use super::Ternary2;
use super::planes::{GROUP, PLANES, Prepared};

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
        self.size() as u64
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
