//! The operator for codecs without their own operator. It decodes a few rows at a time, which stay
//! in the cache, and multiplies with them.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::ops::Range;

use super::kernels::{add_rows, dots};
use super::{Inputs, LinearOp, Product, check_product};
use crate::error::Result;
use crate::rows::{Buffer, RowReader, tiles};

/// Weights of a tile: 16 KiB, so that the tile and the input fit into the first-level cache.
const TILE: usize = 1 << 12;

/// The largest buffer that a thread keeps: 4 MiB. Only very long rows need a larger one.
const KEPT: usize = 4 << 20;

thread_local! {
    /// The buffer for decoded rows. Each thread keeps its buffer, because every product would
    /// otherwise request memory of this size from the operating system.
    static DECODED: RefCell<Buffer> = RefCell::default();
}

/// A linear operator over the rows of an encoded matrix.
#[derive(Debug)]
pub struct RowsLinear {
    reader: Box<dyn RowReader>,
}

impl RowsLinear {
    /// The operator of the matrix that the reader reads.
    pub fn new(reader: Box<dyn RowReader>) -> Self {
        Self { reader }
    }

    /// Calls `visit` with each tile of `rows`, of about `weights` weights, and its decoded values.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn tiles(&self, rows: Range<usize>, weights: usize, visit: impl FnMut(Range<usize>, &[f32])) -> Result<()> {
        tiles_of(&*self.reader, rows, weights, visit)
    }
}

/// [`RowsLinear::tiles`] of a reader.
fn tiles_of(
    reader: &dyn RowReader,
    rows: Range<usize>,
    weights: usize,
    mut visit: impl FnMut(Range<usize>, &[f32]),
) -> Result<()> {
    // The buffer is taken out while it is in use, because the reader may itself use an operator.
    let mut decoded = DECODED.take();
    let result = tiles(reader, rows, reader.shape().1, weights, &mut decoded, |part, values| {
        visit(part, values);
        Ok(())
    });
    if decoded.bytes() <= KEPT {
        DECODED.set(decoded);
    }
    result
}

/// Multiplies with the rows that a reader decodes.
pub(super) fn multiply_rows(
    reader: &dyn RowReader,
    product: Product,
    rows: Range<usize>,
    x: &Inputs<'_>,
    y: &mut [f32],
) -> Result<()> {
    let batch = x.batch();
    // The kernels work on whole vectors: with a batch, outputs are gathered and scattered.
    let mut vector = vec![0.0; if batch > 1 { rows.len().max(reader.shape().1) } else { 0 }];
    tiles_of(reader, rows.clone(), TILE, |part, tile| match product {
        Product::Forward => {
            let y = &mut y[(part.start - rows.start) * batch..(part.end - rows.start) * batch];
            if batch == 1 {
                return dots(tile, x.values(), y);
            }
            for i in 0..batch {
                let vector = &mut vector[..part.len()];
                dots(tile, x.vector(i), vector);
                y.iter_mut().skip(i).step_by(batch).zip(vector).for_each(|(y, sum)| *y = *sum);
            }
        }
        Product::Transposed => {
            if batch == 1 {
                return add_rows(tile, &x.values()[part], y);
            }
            for i in 0..batch {
                let vector = &mut vector[..y.len() / batch];
                vector.iter_mut().zip(y.iter().skip(i).step_by(batch)).for_each(|(v, y)| *v = *y);
                add_rows(tile, &x.vector(i)[part.clone()], vector);
                y.iter_mut().skip(i).step_by(batch).zip(vector).for_each(|(y, v)| *y = *v);
            }
        }
    })
}

/// The tolerance of [`multiply_rows`].
pub(super) fn rows_tolerance((rows, columns): (usize, usize)) -> f32 {
    // A product is rounded once when it is formed, and once in each addition of its sum. Each
    // rounding adds at most half an EPSILON.
    (rows.max(columns) + 2) as f32 * (f32::EPSILON / 2.0)
}

impl LinearOp for RowsLinear {
    fn shape(&self) -> (usize, usize) {
        self.reader.shape()
    }

    fn granule(&self) -> NonZeroUsize {
        self.reader.granule()
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_product(self.shape(), product, &rows, x, y)?;
        multiply_rows(&*self.reader, product, rows, x, y)
    }

    fn divides(&self) -> bool {
        true
    }

    fn tolerance(&self) -> f32 {
        rows_tolerance(self.shape())
    }

    fn resident_bytes(&self) -> u64 {
        self.reader.resident_bytes()
    }
}
