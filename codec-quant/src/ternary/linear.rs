//! Multiplying with the codes. With two bits, inputs are added, subtracted or left out, then scaled
//! once.

use std::array;
use std::ops::Range;

use codec_api::{
    DecodeCx, Inputs, LinearKernel, LinearOp, PayloadView, Product, Result, RowReader, TensorSpec, check_product,
};
use simd::{LANES, Simd, kernel, lanes, load, sum};

use super::matrix::Matrix;
use super::packing::{GROUP, PLANES, levels};
use super::{Packing, Ternary, trits};

/// Rows whose products are added up in registers, before they are added to the outputs.
const BLOCK: usize = 32;

impl LinearKernel for Ternary {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        Ok(Box::new(Matrix::open(self, spec, &payload)?.without_scales_of_zeros()))
    }

    /// A batch decodes two bits again for each vector.
    fn is_for_vectors(&self) -> bool {
        self.packing == Packing::Lanes
    }
}

impl LinearOp for Matrix {
    fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_product((self.rows, self.columns), product, &rows, x, y)?;
        match (self.packing, product) {
            (Packing::Trits, Product::Forward) => trits::forward(self, rows.start, x, y),
            (Packing::Trits, Product::Transposed) => trits::transposed(self, rows, x, y),
            (Packing::Lanes, Product::Forward) => forward(self, rows.start, x, y),
            (Packing::Lanes, Product::Transposed) => transposed(self, rows, x, y),
        }
        Ok(())
    }

    fn divides(&self) -> bool {
        self.packing == Packing::Lanes
    }

    fn tolerance(&self) -> f32 {
        if self.packing == Packing::Trits {
            return trits::tolerance(self);
        }
        // Roundings of an input. Forward: one addition for each group, 2 of planes, 4 in the tree,
        // and the scale. Transposed: the scale, the additions of a block, and one for each block.
        let (forward, transposed) = (self.columns.div_ceil(GROUP) + 7, self.rows.div_ceil(BLOCK) + BLOCK + 1);
        forward.max(transposed) as f32 * f32::EPSILON
    }

    fn resident_bytes(&self) -> u64 {
        RowReader::resident_bytes(self)
    }
}

type Sums = [[f32; LANES]; PLANES];

kernel! {
    fn forward<'a>(simd, matrix: &'a Matrix, first: usize, x: &'a Inputs<'a>, y: &'a mut [f32]) {
        for (i, y) in y.iter_mut().enumerate() {
            let row = first + i / x.batch();
            *y = signed_sum(simd, matrix.codes(row), x.vector(i % x.batch())) * matrix.scale(row);
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
        sums = with_inputs(simd, sums, x, bytes);
    }
    if !rest.is_empty() {
        let mut x = [0.0; GROUP];
        x[..rest.len()].copy_from_slice(rest);
        sums = with_inputs(simd, sums, &x, &load(last));
    }
    sum(lanes!(i => (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i])))
}

/// Passing the sums by value keeps them in registers. A product with a sign is exact.
#[inline(always)]
fn with_inputs<S: Simd>(simd: S, sums: Sums, x: &[f32; GROUP], bytes: &[u8; LANES]) -> Sums {
    let (signs, x, mut next) = (levels(1.0), x.as_chunks::<LANES>().0, sums);
    for plane in 0..PLANES {
        let signs = simd.lookup16(&signs, &lanes!(i => bytes[i] >> (2 * plane)));
        next[plane] = lanes!(i => sums[plane][i] + signs[i] * x[plane][i]);
    }
    next
}

kernel! {
    fn transposed<'a>(simd, matrix: &'a Matrix, rows: Range<usize>, x: &'a Inputs<'a>, y: &'a mut [f32]) {
        for first in rows.clone().step_by(BLOCK) {
            let block = first..rows.end.min(first + BLOCK);
            for vector in 0..x.batch() {
                let inputs = &x.vector(vector)[block.clone()];
                let scaled: [f32; BLOCK] =
                    array::from_fn(|i| inputs.get(i).map_or(0.0, |x| x * matrix.scale(first + i)));
                for group in 0..matrix.columns.div_ceil(GROUP) {
                    let mut sums = [[0.0; LANES]; PLANES];
                    for (row, x) in block.clone().zip(scaled) {
                        sums = with_row(simd, sums, x, &load(&matrix.codes(row)[group * LANES..]));
                    }
                    let y = y[group * GROUP * x.batch() + vector..].iter_mut().step_by(x.batch());
                    for (y, sum) in y.zip(sums.as_flattened()) {
                        *y += sum;
                    }
                }
            }
        }
    }
}

/// Adds a group of a row times the input `x`.
#[inline(always)]
fn with_row<S: Simd>(simd: S, sums: Sums, x: f32, bytes: &[u8; LANES]) -> Sums {
    let (products, mut next) = (levels(x), sums);
    for plane in 0..PLANES {
        let products = simd.lookup16(&products, &lanes!(i => bytes[i] >> (2 * plane)));
        next[plane] = lanes!(i => sums[plane][i] + products[i]);
    }
    next
}
