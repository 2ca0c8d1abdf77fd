//! Row readers and operators of [`Lossy`], with its faults.

use std::ops::Range;
use std::thread;

use codec_api::{
    CodecError, DecodeCx, Dtype, Inputs, LinearKernel, LinearOp, PayloadView, Product, Result, RowReader, Rows,
    TensorSpec, check_outputs, check_product, check_rows,
};

use super::lossy::{Fault, Lossy};

/// The decoded matrix of a payload, as a reader and as an operator.
#[derive(Debug)]
struct Matrix {
    fault: Fault,
    shape: (usize, usize),
    weights: Vec<f32>,
    /// The thread that opened the payload.
    opened_by: thread::ThreadId,
}

impl Matrix {
    fn new(codec: &Lossy, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let n = spec.elements();
        let (high, low) = (payload.bytes("high", Dtype::U8, &[n])?, payload.bytes("low", Dtype::U8, &[n])?);
        let weights =
            high.iter().zip(low).map(|(high, low)| codec.widened(u16::from_le_bytes([*low, *high]))).collect();
        Ok(Self { fault: codec.fault(), shape: spec.matrix(), weights, opened_by: thread::current().id() })
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.weights[row * self.shape.1..][..self.shape.1]
    }

    fn elsewhere(&self) -> bool {
        thread::current().id() != self.opened_by
    }
}

impl Rows for Lossy {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(Matrix::new(self, spec, &payload)?))
    }
}

impl RowReader for Matrix {
    fn shape(&self) -> (usize, usize) {
        if self.fault == Fault::WrongShape { (self.shape.1, self.shape.0) } else { self.shape }
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        if self.fault == Fault::TakesAnyRows && out.is_empty() {
            return Ok(());
        }
        check_rows(self.shape, &rows, out)?;
        let scratch = if self.fault == Fault::Allocates { self.weights.clone() } else { Vec::new() };
        // The mistake of a kernel that begins at a multiple of 2.
        let odd = usize::from(self.fault == Fault::WrongRows && rows.start % 2 == 1);
        for (row, out) in rows.zip(out.chunks_mut(self.shape.1.max(1))) {
            out.copy_from_slice(self.row(row - odd));
        }
        if self.fault == Fault::ReadsByThread && self.elsewhere() {
            for w in out {
                *w += 1.0;
            }
        }
        drop(scratch);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        size_of_val(&*self.weights) as u64
    }
}

impl LinearKernel for Lossy {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        Ok(Box::new(Matrix::new(self, spec, &payload)?))
    }
}

impl LinearOp for Matrix {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        if self.fault == Fault::TakesAnyLength && y.is_empty() {
            return Ok(());
        }
        check_product(self.shape, product, &rows, x, y)?;
        if rows.is_empty() && !self.weights.is_empty() && rows.start > self.shape.0 {
            return Err(CodecError::Usage("rows".to_owned()));
        }
        let batch = x.batch();
        for (i, row) in rows.clone().enumerate() {
            let weights = self.row(if self.fault == Fault::IgnoresRange { i } else { row });
            for b in 0..batch {
                let x = x.vector(b);
                match product {
                    Product::Forward => y[i * batch + b] = self.forward(weights, x),
                    Product::Transposed => self.transposed(weights, x[row], &mut y[b..], batch, i),
                }
            }
        }
        Ok(())
    }

    fn apply_outputs(&self, product: Product, outputs: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_outputs(self.shape, product, &outputs, x, y)?;
        let mut all = vec![0.0; product.sides(self.shape).1 * x.batch()];
        self.apply(product, 0..self.shape.0, x, &mut all)?;
        y.copy_from_slice(&all[outputs.start * x.batch()..outputs.end * x.batch()]);
        if self.fault == Fault::RoundsByRange && outputs.start > 0 {
            for y in y {
                *y += f32::EPSILON * y.abs();
            }
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        if self.fault == Fault::PromisesNothing { 2.0 } else { self.shape.0.max(self.shape.1) as f32 * f32::EPSILON }
    }

    fn resident_bytes(&self) -> u64 {
        let bytes = if self.fault == Fault::KeepsDense { 4 } else { 2 };
        bytes * self.weights.len() as u64
    }
}

impl Matrix {
    fn forward(&self, weights: &[f32], x: &[f32]) -> f32 {
        let clip = |x: f32| if self.fault == Fault::ClipsOutliers { x.clamp(-100.0, 100.0) } else { x };
        let mut y: f32 = weights.iter().zip(x).map(|(w, x)| w * clip(*x)).sum();
        // The mistake of a kernel that leaves out its tail.
        if self.fault == Fault::WrongProduct && !weights.len().is_multiple_of(16) {
            y -= weights[weights.len() - 1] * x[weights.len() - 1];
        }
        if self.fault == Fault::AddsByThread && self.elsewhere() {
            y += f32::EPSILON * y.abs();
        }
        y
    }

    /// Adds the products of one row to every `batch`-th output.
    fn transposed(&self, weights: &[f32], x: f32, y: &mut [f32], batch: usize, i: usize) {
        let x = if self.fault == Fault::WrongTransposed { -x } else { x };
        for (y, w) in y.iter_mut().step_by(batch).zip(weights) {
            *y = if self.fault == Fault::Overwrites && i == 0 { w * x } else { *y + w * x };
        }
    }
}
