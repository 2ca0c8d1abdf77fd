//! Multiplying with the codes: the values of states are multiplied in registers, and the scale
//! comes last.

use std::ops::Range;
use std::sync::Arc;

use codec_api::{
    DecodeCx, Inputs, LinearKernel, LinearOp, PayloadView, Product, Result, RowReader, RowsLinear, TensorSpec,
    check_product,
};
use simd::{LANES, Simd, kernel, load, prefetch, store, sum};

use super::Bitshift;
use super::code::{Code, Computed, OneMad, ThreeInst};
use super::decode::{Opened, Ring, ring, values};
use super::layout::{BLOCK, blocks};

/// Bytes from the codes that a product reads to those that it prefetches.
const AHEAD: usize = 1024;

impl LinearKernel for Bitshift {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        cx.cancel.check()?;
        let opened = Arc::new(Opened::new(self, spec, &payload)?);
        let rows = RowsLinear::new(Box::new(Arc::clone(&opened)));
        Ok(Box::new(Operator { opened, rows }))
    }

    fn is_for_vectors(&self) -> bool {
        true
    }
}

/// Multiplies single vectors with the codes, if a span is a row. Batches and narrow rows are
/// multiplied with decoded rows.
#[derive(Debug)]
struct Operator {
    opened: Arc<Opened>,
    rows: RowsLinear,
}

impl LinearOp for Operator {
    fn shape(&self) -> (usize, usize) {
        RowReader::shape(&self.opened)
    }

    fn granule(&self) -> std::num::NonZeroUsize {
        RowReader::granule(&self.opened)
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        let shape = self.shape();
        check_product(shape, product, &rows, x, y)?;
        if x.batch() != 1 || shape.1 < BLOCK {
            return self.rows.apply(product, rows, x, y);
        }
        match product {
            Product::Forward => forward(&self.opened, rows.start, x.values(), y),
            Product::Transposed => transposed(&self.opened, rows, x.values(), y),
        }
        Ok(())
    }

    fn divides(&self) -> bool {
        true
    }

    fn tolerance(&self) -> f32 {
        // The generic operator rounds a weight and its product. Here the scale is rounded apart.
        self.rows.tolerance() + f32::EPSILON
    }

    fn resident_bytes(&self) -> u64 {
        self.rows.resident_bytes()
    }
}

/// Calls a function with the code and the bits of a payload as types.
macro_rules! with_code {
    ($opened:expr, $function:ident ($($argument:expr),*)) => {
        match ($opened.code, $opened.bits) {
            (Code::OneMad, 1) => $function::<_, OneMad, 1>($($argument),*),
            (Code::OneMad, 2) => $function::<_, OneMad, 2>($($argument),*),
            (Code::OneMad, 3) => $function::<_, OneMad, 3>($($argument),*),
            (Code::OneMad, _) => $function::<_, OneMad, 4>($($argument),*),
            (Code::ThreeInst, 1) => $function::<_, ThreeInst, 1>($($argument),*),
            (Code::ThreeInst, 2) => $function::<_, ThreeInst, 2>($($argument),*),
            (Code::ThreeInst, 3) => $function::<_, ThreeInst, 3>($($argument),*),
            (Code::ThreeInst, _) => $function::<_, ThreeInst, 4>($($argument),*),
        }
    };
}
pub(super) use with_code;

kernel! {
    fn forward<'a>(simd, opened: &'a Opened, first: usize, x: &'a [f32], y: &'a mut [f32]) {
        with_code!(opened, dots(simd, opened, first, x, y));
    }
}

/// The products of the rows from `first` on.
#[inline(always)]
fn dots<S: Simd, C: Computed, const BITS: usize>(simd: S, opened: &Opened, first: usize, x: &[f32], y: &mut [f32]) {
    let mask = opened.mask();
    for (row, y) in (first..).zip(y) {
        let (mut codes, mut x) = (opened.codes_from(row), x);
        let mut sums = [0.0; LANES];
        for weights in blocks(x.len()) {
            let ring = ring::<BITS>(codes, weights);
            prefetch(codes, AHEAD);
            let (block, rest) = x.split_at(weights);
            // The compiler unrolls the loop over a block of known length.
            sums = match <&[f32; BLOCK]>::try_from(block) {
                Ok(block) => dot::<_, C, BITS>(simd, &ring, sums, block, mask),
                Err(_) => dot::<_, C, BITS>(simd, &ring, sums, block, mask),
            };
            (codes, x) = (&codes[opened.layout.bytes(weights)..], rest);
        }
        *y = sum(sums) * opened.scale_of(row);
    }
}

/// Adds the products of a block to sums.
#[inline(always)]
fn dot<S: Simd, C: Computed, const BITS: usize>(
    simd: S,
    ring: &Ring,
    sums: [f32; LANES],
    x: &[f32],
    mask: u32,
) -> [f32; LANES] {
    let (groups, last) = x.as_chunks::<LANES>();
    let mut sums = sums;
    for (i, x) in groups.iter().enumerate() {
        sums = simd.add_product(&sums, &values::<_, C, BITS>(simd, ring, i, mask), x);
    }
    if !last.is_empty() {
        sums = simd.add_product(&sums, &values::<_, C, BITS>(simd, ring, groups.len(), mask), &load(last));
    }
    sums
}

kernel! {
    fn transposed<'a>(simd, opened: &'a Opened, rows: Range<usize>, x: &'a [f32], y: &'a mut [f32]) {
        with_code!(opened, add_rows(simd, opened, rows, x, y));
    }
}

/// Adds the products of some rows to all outputs.
#[inline(always)]
fn add_rows<S: Simd, C: Computed, const BITS: usize>(
    simd: S,
    opened: &Opened,
    rows: Range<usize>,
    x: &[f32],
    y: &mut [f32],
) {
    let mask = opened.mask();
    for row in rows {
        let (mut codes, mut y, x) = (opened.codes_from(row), &mut *y, [x[row] * opened.scale_of(row); LANES]);
        for weights in blocks(y.len()) {
            let ring = ring::<BITS>(codes, weights);
            prefetch(codes, AHEAD);
            let (block, rest) = y.split_at_mut(weights);
            match <&mut [f32; BLOCK]>::try_from(&mut *block) {
                Ok(block) => add_block::<_, C, BITS>(simd, &ring, &x, block, mask),
                Err(_) => add_block::<_, C, BITS>(simd, &ring, &x, block, mask),
            }
            (codes, y) = (&codes[opened.layout.bytes(weights)..], rest);
        }
    }
}

/// Adds the weights of a block times `x` to the outputs.
#[inline(always)]
fn add_block<S: Simd, C: Computed, const BITS: usize>(
    simd: S,
    ring: &Ring,
    x: &[f32; LANES],
    y: &mut [f32],
    mask: u32,
) {
    let (groups, last) = y.as_chunks_mut::<LANES>();
    for (i, y) in groups.iter_mut().enumerate() {
        *y = simd.add_product(y, &values::<_, C, BITS>(simd, ring, i, mask), x);
    }
    if !last.is_empty() {
        store(simd.add_product(&load(last), &values::<_, C, BITS>(simd, ring, groups.len(), mask), x), last);
    }
}
