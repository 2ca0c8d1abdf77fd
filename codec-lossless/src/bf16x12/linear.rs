//! Products of twelve-bit weights with a vector.
//!
//! The weights are decoded in registers. Their products are added in the order of
//! [`codec_api::RowsLinear`], so that the sums have the bits of those with BF16 weights.

use std::ops::Range;
use std::sync::Arc;

use codec_api::{
    DecodeCx, Inputs, LinearKernel, LinearOp, PayloadView, Product, Result, RowReader, RowsLinear, TensorSpec,
    check_product,
};
use simd::{Kernel, LANES, Simd, dispatch, lanes, prefetch, sum};

use super::Bf16x12;
use super::decoder::{Decoder, Escape, Packed, join};

/// Weights that have sums of their own: four times sixteen.
const GROUP: usize = 4 * LANES;

/// The kernel needs a list of the escapes. If more than one element of so many is an escape, the
/// list would be long, and products with decoded rows as fast.
const RARE: usize = 256;

/// Bytes from a group to those that are prefetched.
const AHEAD: usize = 4096;

impl LinearKernel for Bf16x12 {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        let decoder = Arc::new(Decoder::new(spec, &payload)?);
        // A row of an odd matrix may begin in the middle of a byte.
        let packed = decoder.packed().filter(|_| spec.matrix().1.is_multiple_of(2));
        let escapes = packed.map(|packed| packed.escapes(spec.elements() / RARE)).transpose()?.flatten();
        Ok(Box::new(Operator { rows: RowsLinear::new(Box::new(Arc::clone(&decoder))), decoder, escapes }))
    }

    fn is_for_vectors(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Operator {
    decoder: Arc<Decoder>,
    /// Those of the matrix in order, if the kernel can compute its products.
    escapes: Option<Vec<Escape>>,
    /// For batches and the transposed product.
    rows: RowsLinear,
}

impl LinearOp for Operator {
    fn shape(&self) -> (usize, usize) {
        self.rows.shape()
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_product(self.shape(), product, &rows, x, y)?;
        match (self.decoder.packed(), &self.escapes) {
            (Some(packed), Some(escapes)) if product == Product::Forward && x.batch() == 1 => {
                let first = rows.start * self.shape().1;
                dispatch(Dots { packed, escapes, first, x: x.values(), y });
                Ok(())
            }
            _ => self.rows.apply(product, rows, x, y),
        }
    }

    fn divides(&self) -> bool {
        true
    }

    fn tolerance(&self) -> f32 {
        self.rows.tolerance()
    }

    fn resident_bytes(&self) -> u64 {
        RowReader::resident_bytes(&*self.decoder) + self.escapes.as_deref().map_or(0, |all| size_of_val(all) as u64)
    }
}

/// Products of the rows from element `first` on.
struct Dots<'a> {
    packed: &'a Packed,
    escapes: &'a [Escape],
    first: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

type Sums = [[f32; LANES]; 4];

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let begin = self.escapes.partition_point(|escape| escape.place < self.first);
        let mut escapes = &self.escapes[begin..];
        for (row, y) in self.y.iter_mut().enumerate() {
            let first = self.first + row * self.x.len();
            *y = dot(simd, self.packed, first, &mut escapes, self.x);
        }
    }
}

/// The product of the row from element `first` on. It takes its escapes, the first ones.
#[inline(always)]
fn dot<S: Simd>(simd: S, packed: &Packed, first: usize, escapes: &mut &[Escape], x: &[f32]) -> f32 {
    let (low, index) = packed.bytes(first);
    let ((x, last_x), low_groups) = (x.as_chunks::<GROUP>(), low.as_chunks::<GROUP>().0);
    let index_groups = index.as_chunks::<{ GROUP / 2 }>().0;
    let mut sums: Sums = [[0.0; LANES]; 4];
    let mut at = first;
    for ((x, group), codes) in x.iter().zip(low_groups).zip(index_groups) {
        prefetch(low, at - first + AHEAD);
        prefetch(index, (at - first) / 2 + AHEAD);
        at += GROUP;
        // Escapes have an arbitrary exponent.
        let weights = simd.coded_bf16(&packed.floats, codes, group);
        if escapes.first().is_some_and(|escape| escape.place < at) {
            // A copy lets the others stay in registers.
            let mut weights = weights;
            patch(escapes, at - GROUP..at, group, weights.as_flattened_mut());
            sums = add_all(simd, sums, &weights, x);
        } else {
            sums = add_all(simd, sums, &weights, x);
        }
    }
    let rest = (&low[at - first..], &index[(at - first) / 2..]);
    sums[0] = with_rest(simd, sums[0], packed, rest, (escapes, at), last_x);
    sum(simd.add(&simd.add(&sums[0], &sums[1]), &simd.add(&sums[2], &sums[3])))
}

/// Puts the values of the escapes of some elements in their places.
fn patch(escapes: &mut &[Escape], elements: Range<usize>, low: &[u8], weights: &mut [f32]) {
    while let Some((escape, others)) = escapes.split_first().filter(|(escape, _)| escape.place < elements.end) {
        let place = escape.place - elements.start;
        weights[place] = escape.value(low[place]);
        *escapes = others;
    }
}

/// Adds the products of the last elements of a row: whole blocks of lanes, and a last one that may
/// be empty.
#[inline(always)]
fn with_rest<S: Simd>(
    simd: S,
    mut sums: [f32; LANES],
    packed: &Packed,
    (low, index): (&[u8], &[u8]),
    (escapes, first): (&mut &[Escape], usize),
    x: &[f32],
) -> [f32; LANES] {
    if x.is_empty() {
        return add(simd, &sums, &[0.0; LANES], &[0.0; LANES]);
    }
    let mut weights = [0.0; GROUP];
    for (i, (weight, low)) in weights[..x.len()].iter_mut().zip(low).enumerate() {
        *weight = join(packed.floats[usize::from(index[i / 2] >> (i % 2 * 4) & 15)], *low);
    }
    patch(escapes, first..first + x.len(), low, &mut weights);
    let mut last = [0.0; GROUP];
    last[..x.len()].copy_from_slice(x);
    let (weights, last) = (weights.as_chunks::<LANES>().0, last.as_chunks::<LANES>().0);
    for (weights, x) in weights.iter().zip(last).take(x.len() / LANES + 1) {
        sums = add(simd, &sums, weights, x);
    }
    sums
}

#[inline(always)]
fn add<S: Simd>(simd: S, sums: &[f32; LANES], weights: &[f32; LANES], x: &[f32; LANES]) -> [f32; LANES] {
    simd.add(sums, &lanes!(i => weights[i] * x[i]))
}

/// Passing the sums by value keeps them in registers.
#[inline(always)]
fn add_all<S: Simd>(simd: S, sums: Sums, weights: &[[f32; LANES]; 4], x: &[f32; GROUP]) -> Sums {
    let mut next = sums;
    for (part, x) in x.as_chunks::<LANES>().0.iter().enumerate() {
        next[part] = add(simd, &sums[part], &weights[part], x);
    }
    next
}
