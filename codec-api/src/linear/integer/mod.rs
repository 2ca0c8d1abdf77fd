//! Products with matrices of small integers, in integer arithmetic.
//!
//! A weight is `(code − zero) · scale`, or `code · scale − minimum`. The codes are repacked for one
//! of the two products: sixteen outputs lie side by side ([`lines`]), and the inputs become
//! integers of 16 bits with a scale for every 64 ([`inputs`]). So a product is a sum of exact
//! integer products, and only the sums are scaled. Sixteen bits keep the error of the inputs far
//! below that of the codes.

mod batch;
mod inputs;
mod kernel;
mod lines;
mod packing;
mod scales;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::ops::Range;

use simd::{LANES, dot};

use super::rows::{multiply_rows, rows_tolerance};
use super::{Inputs, LinearOp, Product, check_outputs, check_product, check_vectors};
use crate::error::Result;
use crate::rows::{RowReader, check_rows};
use inputs::BLOCK;
use kernel::{Outputs, Tiles, Zeros, multiply};
use lines::{ALIGNED, Line, get};
use scales::Scales;

pub(in crate::linear) use inputs::IntegerInputs;

/// How the codes of a matrix and their scales are arranged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IntegerLayout {
    /// Rows and columns of the matrix.
    shape: (usize, usize),
    /// Bits of a code: 2, 4, 6 or 8.
    bits: usize,
    /// Columns that share a scale: 16, 32, 64 or a multiple of 64; `None` if a row shares one.
    group: Option<usize>,
    /// The zero point of all groups; `None` if each has its own.
    zero: Option<u8>,
    /// Groups that share a number in F16, of which their scales are multiples; `None` if each has
    /// its own number.
    shared: Option<usize>,
    /// Whether groups have minima, which are like their scales.
    minima: bool,
    /// A factor of all scales and minima.
    factor: f32,
}

impl IntegerLayout {
    /// A layout with the factor 1; `None` if it is not one of the supported ones.
    pub fn new(shape: (usize, usize), bits: usize, group: Option<usize>, zero: Option<u8>) -> Option<Self> {
        let nests = group.is_none_or(|group| matches!(group, 16 | 32) || group > 0 && group.is_multiple_of(BLOCK));
        let layout = Self { shape, bits, group, zero, shared: None, minima: false, factor: 1.0 };
        (nests && matches!(bits, 2 | 4 | 6 | 8)).then_some(layout)
    }

    /// Scales, and minima if there are any, are small integers times a number that so many groups
    /// share. `None` for no groups, and for minima of groups of 64 columns and more.
    pub fn sharing(mut self, groups: usize, minima: bool) -> Option<Self> {
        let fits = groups > 0 && (!minima || self.group.is_some_and(|group| group < BLOCK));
        (self.shared, self.minima) = (Some(groups), minima);
        fits.then_some(self)
    }

    /// With a factor of all scales.
    #[must_use]
    pub fn times(mut self, factor: f32) -> Self {
        self.factor = factor;
        self
    }

    /// Groups of a row.
    fn groups(&self) -> usize {
        self.group.map_or(1, |group| self.shape.1.div_ceil(group))
    }
}

/// The codes of a row, and its groups.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct IntegerRow {
    /// A code for each column, below 2 to the power of the bits of the layout.
    pub codes: Vec<u8>,
    /// The numbers of the scales, as F16 bits: one for each group, or for some that share it.
    pub scales: Vec<u16>,
    /// The integer that multiplies the number of each group; empty if no number is shared.
    pub factors: Vec<i8>,
    /// The zero point of each group; ignored if all are the same.
    pub zeros: Vec<u8>,
    /// As [`Self::scales`], for the minima; empty if there are none.
    pub minima: Vec<u16>,
    /// As [`Self::factors`], for the minima.
    pub minimum_factors: Vec<i8>,
}

/// A matrix of small integers, repacked for one product. It computes the other one from decoded
/// rows.
///
/// A forward product of a row is off by the error of the inputs and the roundings of its sums. In a
/// transposed product the scales of `W` become factors of the inputs.
#[derive(Debug)]
pub struct IntegerMatrix {
    layout: IntegerLayout,
    product: Product,
    /// Those of the tiles in turn.
    lines: Vec<Line>,
    scales: Scales,
    minima: Option<Scales>,
    /// In the order of [`Scales`]; empty if all are the same.
    zeros: Vec<u8>,
    tolerance: f32,
}

impl LinearOp for IntegerMatrix {
    fn shape(&self) -> (usize, usize) {
        self.layout.shape
    }

    fn granule(&self) -> NonZeroUsize {
        NonZeroUsize::new(LANES).unwrap_or(NonZeroUsize::MIN)
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_product(self.layout.shape, product, &rows, x, y)?;
        if product != self.product {
            return multiply_rows(self, product, rows, x, y);
        }
        match product {
            Product::Forward => self.forward(rows, x, y, [x.batch(), 1]),
            Product::Transposed => {
                let columns = 0..self.layout.shape.1;
                let mut out = Outputs { y, range: columns, batch: x.batch(), strides: [x.batch(), 1], add: true };
                self.transposed(rows, x, &mut out);
            }
        }
        Ok(())
    }

    fn shares_outputs(&self, product: Product) -> bool {
        product == self.product || product == Product::Forward
    }

    fn divides(&self) -> bool {
        true
    }

    fn apply_outputs(&self, product: Product, outputs: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_outputs(self.layout.shape, product, &outputs, x, y)?;
        if product == Product::Transposed && self.product == product {
            self.outputs(outputs, x, y, [x.batch(), 1]);
            return Ok(());
        }
        super::outputs_by_rows(self, product, outputs, x, y)
    }

    fn apply_vectors(
        &self,
        product: Product,
        outputs: Range<usize>,
        x: &Inputs<'_>,
        y: &mut [f32],
        stride: usize,
    ) -> Result<()> {
        check_vectors(self.layout.shape, product, &outputs, x, (y, stride))?;
        if product == self.product {
            self.outputs(outputs, x, y, [1, stride]);
            return Ok(());
        }
        super::vectors_by_outputs(self, product, outputs, x, (y, stride))
    }

    fn tolerance(&self) -> f32 {
        self.tolerance.max(rows_tolerance(self.layout.shape))
    }

    fn resident_bytes(&self) -> u64 {
        let scales = self.scales.bytes() + self.minima.as_ref().map_or(0, Scales::bytes);
        (size_of_val(&*self.lines) + scales + size_of_val(&*self.zeros)) as u64
    }
}

impl IntegerMatrix {
    /// The tiles, without scales.
    fn tiles<'a>(&'a self, zeros: Zeros<'a>) -> Tiles<'a> {
        let inputs = self.product.sides(self.layout.shape).0.next_multiple_of(ALIGNED);
        let group = self.layout.group.filter(|_| self.product == Product::Forward);
        Tiles {
            bits: self.layout.bits,
            inputs,
            group: group.unwrap_or(inputs.max(ALIGNED)),
            lines: &self.lines,
            scales: None,
            minima: None,
            zeros,
            factor: self.layout.factor,
        }
    }

    /// Some outputs of the product that the matrix is packed for.
    fn outputs(&self, range: Range<usize>, x: &Inputs<'_>, y: &mut [f32], strides: [usize; 2]) {
        match self.product {
            Product::Forward => self.forward(range, x, y, strides),
            Product::Transposed => {
                let rows = 0..self.layout.shape.0;
                self.transposed(rows, x, &mut Outputs { y, range, batch: x.batch(), strides, add: false });
            }
        }
    }

    fn forward(&self, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32], strides: [usize; 2]) {
        let zeros = self.layout.zero.map_or(Zeros::OfGroups(self.zeros.as_chunks().0), Zeros::One);
        let tiles = Tiles {
            scales: Some(self.scales.tiles()),
            minima: self.minima.as_ref().map(Scales::tiles),
            ..self.tiles(zeros)
        };
        multiply(&tiles, x.integers(), &mut Outputs { y, range: rows, batch: x.batch(), strides, add: false });
    }

    /// Products of the inputs `rows` for the outputs, which are columns: for each group of columns,
    /// with the inputs times the scales of the rows.
    fn transposed(&self, rows: Range<usize>, x: &Inputs<'_>, out: &mut Outputs<'_>) {
        let ((inputs, outputs), &mut Outputs { batch, strides, add, .. }) = (self.layout.shape, &mut *out);
        let columns = out.range.clone();
        let width = self.layout.group.unwrap_or(outputs).max(1);
        let mut scales = vec![0.0; inputs];
        let mut integers = IntegerInputs::with_size(inputs, batch);
        let used = only(rows, x);
        for group in columns.start / width..columns.end.div_ceil(width) {
            self.scales.of_columns(group, &mut scales);
            let zeros = self.zeros.get(group * inputs..).and_then(|zeros| zeros.get(..inputs));
            for i in 0..batch {
                integers.set_scaled(i, &used[i * inputs..][..inputs], &scales, zeros);
            }
            let range = columns.start.max(group * width)..columns.end.min((group + 1) * width);
            let y = &mut out.y[(range.start - columns.start) * strides[0]..];
            let tiles = self.tiles(self.layout.zero.map_or(Zeros::OfInputs(zeros.unwrap_or_default()), Zeros::One));
            let columns = range.len();
            multiply(&tiles, &integers, &mut Outputs { y: &mut *y, range, batch, strides, add });
            if let Some(minima) = &self.minima {
                minima.of_columns(group, &mut scales);
                for (i, x) in used.chunks(inputs.max(1)).enumerate() {
                    let offset = dot(x, &scales) * self.layout.factor;
                    let y = y[i * strides[1]..].iter_mut().step_by(strides[0]).take(columns);
                    y.for_each(|y| *y -= offset);
                }
            }
        }
    }
}

impl RowReader for IntegerMatrix {
    fn shape(&self) -> (usize, usize) {
        self.layout.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.layout.shape, &rows, out)?;
        let columns = self.layout.shape.1;
        let width = self.layout.group.unwrap_or(columns).max(1);
        let tile = lines::lines_of(self.layout.bits, self.product.sides(self.layout.shape).0);
        for (row, out) in rows.zip(out.chunks_mut(columns.max(1))) {
            for (group, out) in out.chunks_mut(width).enumerate() {
                let (scale, zero, minimum) = self.group(row, group);
                for (column, out) in (group * width..).zip(out) {
                    let (input, output) = if self.product == Product::Forward { (column, row) } else { (row, column) };
                    let lines = &self.lines[output / LANES * tile..][..tile];
                    let code = get(self.layout.bits, lines, output % LANES, input);
                    *out = (f32::from(code) - f32::from(zero)) * scale - minimum;
                }
            }
        }
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        LinearOp::resident_bytes(self)
    }
}

/// The inputs with zeros in place of those outside a range.
fn only<'a>(range: Range<usize>, x: &Inputs<'a>) -> Cow<'a, [f32]> {
    let width = x.width();
    if range == (0..width) {
        return Cow::Borrowed(x.values());
    }
    let mut values = x.values().to_vec();
    for vector in values.chunks_mut(width.max(1)) {
        vector[..range.start].fill(0.0);
        vector[range.end..].fill(0.0);
    }
    Cow::Owned(values)
}
