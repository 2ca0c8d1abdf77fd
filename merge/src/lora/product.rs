//! `W + s·L·R` while it is read.

use std::borrow::Cow;
use std::ops::Range;

use codec_api::TensorSpec;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::source::{Source, check};

/// Columns that are computed at once.
const WIDTH: usize = 4096;

/// A small matrix in memory, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) values: Cow<'a, [f32]>,
}

impl Matrix<'_> {
    pub(super) fn transposed(&self) -> Self {
        let mut values = vec![0.0; self.values.len()];
        codec_api::util::transpose((self.rows, self.columns), &self.values, &mut values);
        Self { rows: self.columns, columns: self.rows, values: values.into() }
    }
}

/// What one norm of DoRA belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Axis {
    Rows,
    Columns,
}

/// The lengths that DoRA gives to rows or columns.
#[derive(Debug)]
pub(crate) struct Magnitude<'a> {
    pub(crate) axis: Axis,
    pub(crate) values: Cow<'a, [f32]>,
}

/// What rows or columns are multiplied by to get their length.
pub(crate) type Factors<'a> = Option<(Axis, Cow<'a, [f64]>)>;

/// `W + s·L·R`, and with magnitudes every row or column at its length.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    base: Box<dyn Source + 'a>,
    left: Matrix<'a>,
    right: Matrix<'a>,
    scale: f64,
    factors: Factors<'a>,
}

impl<'a> Product<'a> {
    /// # Errors
    /// If the shapes do not fit.
    pub(crate) fn new(
        base: Box<dyn Source + 'a>,
        left: Matrix<'a>,
        right: Matrix<'a>,
        scale: f64,
    ) -> Result<Self, String> {
        let fits = left.rows.checked_mul(right.columns) == Some(base.spec().elements());
        if !fits || left.columns != right.rows {
            return Err(format!("{} × {} is added to {}", left.rows, right.columns, base.spec()));
        }
        Ok(Self { base, left, right, scale, factors: None })
    }

    /// Gives every row or column this length.
    ///
    /// # Errors
    /// If the number of lengths is wrong; those of the base.
    pub(crate) fn with_magnitude(self, magnitude: &Magnitude<'_>) -> Result<Self> {
        let factors = self.factors(magnitude)?;
        Ok(self.with_factors(factors))
    }

    /// Multiplies rows or columns by factors that [`Self::factors`] has found.
    pub(crate) fn with_factors(mut self, factors: Factors<'a>) -> Self {
        self.factors = factors;
        self
    }

    /// What gives every row or column this length.
    ///
    /// # Errors
    /// As [`Self::with_magnitude`].
    pub(crate) fn factors<'f>(&self, magnitude: &Magnitude<'_>) -> Result<Factors<'f>> {
        let (rows, columns) = (self.left.rows, self.right.columns);
        let count = if magnitude.axis == Axis::Rows { rows } else { columns };
        if magnitude.values.len() != count {
            let reason = format!("{} magnitudes for {count} vectors", magnitude.values.len());
            return Err(crate::Error::Method(reason));
        }
        let (mut squares, mut row_values) = (vec![0.0f64; count], vec![0.0f64; columns]);
        for row in 0..rows {
            self.row(row, 0..columns, &mut row_values)?;
            match magnitude.axis {
                Axis::Rows => squares[row] = row_values.iter().map(|x| x * x).sum(),
                Axis::Columns => squares.iter_mut().zip(&row_values).for_each(|(sum, x)| *sum += x * x),
            }
        }
        let factor =
            |(length, square): (&f32, f64)| if square > 0.0 { f64::from(*length) / square.sqrt() } else { 0.0 };
        Ok(Some((magnitude.axis, magnitude.values.iter().zip(squares).map(factor).collect())))
    }

    /// Some columns of a row, without magnitudes.
    fn row(&self, row: usize, columns: Range<usize>, out: &mut [f64]) -> Result<()> {
        let mut base = vec![0.0f32; columns.len()];
        self.base.read(row * self.right.columns + columns.start, &mut base)?;
        out.fill(0.0);
        let left = &self.left.values[row * self.left.columns..(row + 1) * self.left.columns];
        for (k, factor) in left.iter().enumerate() {
            let right = &self.right.values[k * self.right.columns..][columns.clone()];
            add_product(f64::from(*factor), right, out);
        }
        out.iter_mut().zip(&base).for_each(|(out, base)| *out = f64::from(*base) + self.scale * *out);
        Ok(())
    }
}

simd::kernel! {
    fn add_product<'a>(_simd, factor: f64, x: &'a [f32], out: &'a mut [f64]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out += factor * f64::from(*x));
    }
}

impl Source for Product<'_> {
    fn spec(&self) -> &TensorSpec {
        self.base.spec()
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<()> {
        let range = check(self.spec(), start, out.len())?;
        let width = self.right.columns;
        let (mut at, mut values) = (range.start, vec![0.0f64; WIDTH.min(width)]);
        while at < range.end {
            let (row, column) = (at / width, at % width);
            let len = (width - column).min(range.end - at).min(WIDTH);
            let values = &mut values[..len];
            self.row(row, column..column + len, values)?;
            match &self.factors {
                Some((Axis::Rows, factors)) => values.iter_mut().for_each(|x| *x *= factors[row]),
                Some((Axis::Columns, factors)) => {
                    values.iter_mut().zip(&factors[column..]).for_each(|(x, factor)| *x *= factor);
                }
                None => {}
            }
            let out = &mut out[at - range.start..][..len];
            out.iter_mut().zip(&*values).for_each(|(out, x)| *out = *x as f32);
            at += len;
        }
        Ok(())
    }

    fn release(&self, elements: Range<usize>) {
        self.base.release(elements);
    }
}
