//! Repacking of codes, and the tolerance of products with them.

use simd::LANES;

use super::inputs::{BLOCK, STEP_ERROR};
use super::lines::{lines_of, set};
use super::scales::{Scales, index, rows_of, widened};
use super::{IntegerLayout, IntegerMatrix, IntegerRow};
use crate::error::Result;
use crate::linear::Product;
use crate::util::zeros;

/// The largest tolerance of an [`IntegerMatrix`]: some times that of a usual matrix.
const MOST_TOLERANCE: f32 = 1e-3;

impl IntegerMatrix {
    /// Repacks a matrix for a product; `read` gets the codes and groups of a row.
    ///
    /// The result is `None` if the rows differ so much in scale that the error of a transposed
    /// product cannot be bounded well; no encoder makes such a matrix.
    ///
    /// # Errors
    /// Those of `read`; [`crate::CodecError::Limit`] if there is not enough memory.
    pub fn pack(
        layout: IntegerLayout,
        product: Product,
        mut read: impl FnMut(usize, &mut IntegerRow) -> Result<()>,
    ) -> Result<Option<Self>> {
        let (inputs, outputs) = product.sides(layout.shape);
        let per_tile = lines_of(layout.bits, inputs);
        let mut matrix = Self {
            layout,
            product,
            lines: zeros(outputs.div_ceil(LANES) * per_tile)?,
            scales: Scales::new(&layout, product)?,
            minima: layout.minima.then(|| Scales::new(&layout, product)).transpose()?,
            zeros: zeros(if layout.zero.is_none() { rows_of(&layout, product) * layout.groups() } else { 0 })?,
            tolerance: 0.0,
        };
        let mut out = IntegerRow::new(&layout)?;
        let mut errors = Errors::new(&layout)?;
        for row in 0..layout.shape.0 {
            read(row, &mut out)?;
            if let Some(zero) = layout.zero {
                out.zeros.fill(zero);
            } else {
                for (group, zero) in out.zeros.iter().enumerate() {
                    let at = matrix.zero_index(row, group);
                    matrix.zeros[at] = *zero;
                }
            }
            out.clear_scales_of_zeros(&layout);
            matrix.set_codes(row, per_tile, &out.codes);
            matrix.scales.set(row, &out.scales, &out.factors);
            if let Some(minima) = &mut matrix.minima {
                minima.set(row, &out.minima, &out.minimum_factors);
            }
            errors.count(row, &out);
        }
        matrix.tolerance = errors.tolerance(product) as f32;
        Ok((matrix.tolerance <= MOST_TOLERANCE).then_some(matrix))
    }

    fn set_codes(&mut self, row: usize, per_tile: usize, codes: &[u8]) {
        let bits = self.layout.bits;
        if self.product == Product::Forward {
            let tile = &mut self.lines[row / LANES * per_tile..][..per_tile];
            for (input, code) in codes.iter().enumerate() {
                set(bits, tile, row % LANES, input, *code);
            }
        } else {
            for (codes, tile) in codes.chunks(LANES).zip(self.lines.chunks_mut(per_tile)) {
                for (lane, code) in codes.iter().enumerate() {
                    set(bits, tile, lane, row, *code);
                }
            }
        }
    }

    fn zero_index(&self, row: usize, group: usize) -> usize {
        index(self.product, self.layout.shape.0, row, group, self.layout.groups())
    }

    /// Scale, zero point and minimum of a group of a row.
    pub(super) fn group(&self, row: usize, group: usize) -> (f32, u8, f32) {
        let zero = self.layout.zero.unwrap_or_else(|| self.zeros[self.zero_index(row, group)]);
        let number = |scales: &Scales| scales.get(row, group) * self.layout.factor;
        (number(&self.scales), zero, self.minima.as_ref().map_or(0.0, number))
    }
}

impl IntegerRow {
    fn new(layout: &IntegerLayout) -> Result<Self> {
        let groups = layout.groups();
        let numbers = groups.div_ceil(layout.shared.unwrap_or(1));
        let (factors, minima) = (if layout.shared.is_some() { groups } else { 0 }, usize::from(layout.minima));
        Ok(Self {
            codes: zeros(layout.shape.1)?,
            scales: zeros(numbers)?,
            factors: zeros(factors)?,
            zeros: zeros(groups)?,
            minima: zeros(numbers * minima)?,
            minimum_factors: zeros(factors * minima)?,
        })
    }

    /// Sets the scales of groups of zeros to 0: in a transposed product they would make the steps
    /// of the inputs larger.
    fn clear_scales_of_zeros(&mut self, layout: &IntegerLayout) {
        let width = layout.group.unwrap_or(self.codes.len()).max(1);
        for (group, codes) in self.codes.chunks(width).enumerate() {
            if codes.iter().any(|code| *code != self.zeros[group]) {
                continue;
            }
            if layout.shared.is_some() {
                self.factors[group] = 0;
            } else {
                self.scales[group] = 0;
            }
        }
    }

    /// Scale and minimum of a group, without the factor of all.
    fn group(&self, layout: &IntegerLayout, group: usize) -> (f32, f32) {
        let of = |halves: &[u16], factors: &[i8]| {
            let half = halves.get(group / layout.shared.unwrap_or(1)).copied().unwrap_or_default();
            widened(half) * factors.get(group).map_or(1.0, |factor| f32::from(*factor))
        };
        (of(&self.scales, &self.factors), of(&self.minima, &self.minimum_factors))
    }
}

/// Bounds of the errors of products.
///
/// An input is off by at most [`STEP_ERROR`] times the largest magnitude of its block. So a block
/// of inputs `x` is off by at most `e·√64·‖x‖`, with `e` for that constant, and a forward product
/// of a row `w` by `e·√64·‖w‖·‖x‖`. In a transposed product the inputs are multiplied by the scales
/// of their rows before. With `s` the largest scale of a block and `c` the largest of its `|code −
/// zero|`, an output is off by at most `e·64·s·c·‖x‖` for the block, and by the root of the sum of
/// the squares of `e·64·s·c`, times `‖x‖`, for all.
///
/// Each term of a sum is rounded when it is converted, scaled and added. With minima a product is
/// the difference of two sums, whose terms may be larger than the weights.
#[derive(Debug)]
struct Errors {
    layout: IntegerLayout,
    /// `‖Ŵ‖²`.
    energy: f64,
    /// `‖T‖²`, with the largest term of each weight: `s·c`, and its minimum.
    terms: f64,
    /// The largest `s·c` in the block of rows, for each group of columns.
    block: Vec<f64>,
    /// Sums of the squares of `64·s·c` over the blocks before.
    sums: Vec<f64>,
    rows: usize,
}

impl Errors {
    fn new(layout: &IntegerLayout) -> Result<Self> {
        let of_groups = || zeros(layout.groups());
        Ok(Self { layout: *layout, energy: 0.0, terms: 0.0, block: of_groups()?, sums: of_groups()?, rows: 0 })
    }

    fn count(&mut self, row: usize, read: &IntegerRow) {
        if row.is_multiple_of(BLOCK) {
            self.end_block();
        }
        self.rows += 1;
        let factor = f64::from(self.layout.factor);
        let width = self.layout.group.unwrap_or(read.codes.len()).max(1);
        for (g, codes) in read.codes.chunks(width).enumerate() {
            let (scale, minimum) = read.group(&self.layout, g);
            let (scale, minimum) = (f64::from(scale) * factor, f64::from(minimum) * factor);
            let sums = Sums::new(codes, read.zeros[g]);
            let count = codes.len() as f64;
            self.energy += scale * scale * sums.squares - 2.0 * scale * minimum * sums.sum + count * minimum * minimum;
            let reach = scale.abs() * sums.most;
            self.terms += count * (reach + minimum.abs()).powi(2);
            // What is not a number is kept.
            self.block[g] = if reach <= self.block[g] { self.block[g] } else { reach };
        }
    }

    fn end_block(&mut self) {
        for (block, sum) in self.block.iter_mut().zip(&mut self.sums) {
            *sum += (*block * self.rows as f64).powi(2);
            *block = 0.0;
        }
        self.rows = 0;
    }

    fn tolerance(mut self, product: Product) -> f64 {
        self.end_block();
        let (inputs, _) = product.sides(self.layout.shape);
        if self.energy <= 0.0 && self.terms == 0.0 {
            return 0.0;
        }
        let span = self.layout.group.filter(|_| product == Product::Forward).unwrap_or(BLOCK).min(BLOCK);
        let roundings = (inputs.div_ceil(span) + 10) as f64 * f64::from(f32::EPSILON / 2.0);
        let spread = if self.layout.minima { 2.0 * (self.terms / self.energy).sqrt() } else { 1.0 };
        let off = match product {
            Product::Forward => STEP_ERROR * (BLOCK as f64).sqrt(),
            Product::Transposed => {
                let largest = self.sums.iter().fold(0.0, |a: f64, b| if *b <= a { a } else { *b });
                STEP_ERROR * (largest / self.energy).sqrt()
            }
        };
        off + roundings * spread
    }
}

/// Sums over the codes of a group, less their zero point.
struct Sums {
    /// The largest magnitude.
    most: f64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn new(codes: &[u8], zero: u8) -> Self {
        let (mut most, mut sum, mut squares) = (0, 0i64, 0u64);
        for codes in codes.chunks(1 << 12) {
            let (mut part, mut part_squares) = (0i32, 0u32);
            for code in codes {
                let less = i32::from(*code) - i32::from(zero);
                most = most.max(less.unsigned_abs());
                part += less;
                part_squares += (less * less) as u32;
            }
            sum += i64::from(part);
            squares += u64::from(part_squares);
        }
        Self { most: most.into(), sum: sum as f64, squares: squares as f64 }
    }
}
