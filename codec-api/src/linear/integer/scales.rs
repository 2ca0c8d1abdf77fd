//! Scales and minima of groups: numbers in F16, which groups may share, times small integers.

use simd::{LANES, Lanes, Simd, f16_to_f32, kernel, lanes, load, store};

use super::IntegerLayout;
use crate::error::Result;
use crate::linear::Product;
use crate::util::zeros;

/// The scales of all groups, or their minima.
///
/// Prepared for a forward product, the numbers of the groups of a tile follow each other, [`LANES`]
/// each. For a transposed product, the numbers of all rows for the first group of columns come
/// first.
#[derive(Debug)]
pub(super) struct Scales {
    rows: usize,
    /// Groups of a row.
    groups: usize,
    /// Groups that share a number.
    shared: usize,
    product: Product,
    halves: Vec<u16>,
    /// Factors of the numbers; empty if they are 1.
    factors: Vec<i8>,
}

impl Scales {
    pub(super) fn new(layout: &IntegerLayout, product: Product) -> Result<Self> {
        let rows = rows_of(layout, product);
        let (groups, shared) = (layout.groups(), layout.shared.unwrap_or(1));
        let halves = zeros(rows * groups.div_ceil(shared))?;
        let factors = zeros(if layout.shared.is_some() { rows * groups } else { 0 })?;
        Ok(Self { rows, groups, shared, product, halves, factors })
    }

    /// Stores the numbers of a row.
    pub(super) fn set(&mut self, row: usize, halves: &[u16], factors: &[i8]) {
        for (number, half) in halves.iter().enumerate() {
            let at = self.index(row, number, self.numbers());
            self.halves[at] = *half;
        }
        for (group, factor) in factors.iter().enumerate() {
            let at = self.index(row, group, self.groups);
            self.factors[at] = *factor;
        }
    }

    /// Numbers of a row.
    fn numbers(&self) -> usize {
        self.groups.div_ceil(self.shared)
    }

    fn index(&self, row: usize, number: usize, of: usize) -> usize {
        index(self.product, self.rows, row, number, of)
    }

    /// The scale of a group.
    pub(super) fn get(&self, row: usize, group: usize) -> f32 {
        let factor = match &*self.factors {
            [] => 1.0,
            factors => f32::from(factors[self.index(row, group, self.groups)]),
        };
        widened(self.halves[self.index(row, group / self.shared, self.numbers())]) * factor
    }

    /// The scales of all rows for a group of columns, prepared for a transposed product.
    pub(super) fn of_columns(&self, group: usize, out: &mut [f32]) {
        let halves = &self.halves[group / self.shared * self.rows..][..self.rows];
        let factors = self.factors.get(group * self.rows..).and_then(|factors| factors.get(..self.rows));
        widen(halves, factors.unwrap_or_default(), out);
    }

    /// Prepared for a forward product, the numbers as the kernels read them.
    pub(super) fn tiles(&self) -> TileScales<'_> {
        TileScales {
            groups: self.groups,
            shared: self.shared,
            halves: self.halves.as_chunks().0,
            factors: self.factors.as_chunks().0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.halves) + size_of_val(&*self.factors)
    }
}

/// Rows with space for numbers: in a forward product, those of whole tiles.
pub(super) fn rows_of(layout: &IntegerLayout, product: Product) -> usize {
    let rows = layout.shape.0;
    if product == Product::Forward { rows.next_multiple_of(LANES) } else { rows }
}

/// Index of a number of a row that has `of` numbers, in the order of [`Scales`].
pub(super) fn index(product: Product, rows: usize, row: usize, number: usize, of: usize) -> usize {
    match product {
        Product::Forward => (row / LANES * of + number) * LANES + row % LANES,
        Product::Transposed => number * rows + row,
    }
}

/// The scales of tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileScales<'a> {
    groups: usize,
    shared: usize,
    halves: &'a [[u16; LANES]],
    factors: &'a [[i8; LANES]],
}

impl TileScales<'_> {
    #[inline(always)]
    pub(super) fn get<S: Simd>(&self, simd: S, tile: usize, group: usize) -> Lanes<f32> {
        let numbers = self.groups.div_ceil(self.shared);
        let scales = simd.f16_to_f32(&self.halves[tile * numbers + group / self.shared]);
        if self.factors.is_empty() {
            return scales;
        }
        let factors = &self.factors[tile * self.groups + group];
        lanes!(i => scales[i] * f32::from(factors[i]))
    }
}

/// An F16 number.
pub(super) fn widened(half: u16) -> f32 {
    let mut value = [0.0];
    f16_to_f32(&[half], &mut value);
    value[0]
}

kernel! {
    fn widen<'a>(simd, halves: &'a [u16], factors: &'a [i8], out: &'a mut [f32]) {
        for (b, (halves, out)) in halves.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
            let numbers = simd.f16_to_f32(&load(halves));
            if factors.is_empty() {
                store(numbers, out);
            } else {
                let factors: Lanes<i8> = load(&factors[b * LANES..]);
                store(lanes!(i => numbers[i] * f32::from(factors[i])), out);
            }
        }
    }
}
