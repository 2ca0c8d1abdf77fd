//! The generic operator for batches: decoded rows and dense matrix products.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::util::transpose_to;
use codec_api::{Inputs, LinearOp, Product, Result, RowReader, RowsLinear, check_product};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Weights of a tile: 1 MiB. Each is used once for every vector of the batch.
const TILE: usize = 1 << 18;

/// A linear operator over the rows of an encoded matrix. A single vector is bound by the decoder,
/// which [`RowsLinear`] feeds; for a batch, tiles of rows are multiplied as dense matrices.
#[derive(Debug)]
pub struct RowsMatrix(RowsLinear);

impl RowsMatrix {
    /// The operator of the matrix that the reader reads.
    pub fn new(reader: Box<dyn RowReader>) -> Self {
        Self(RowsLinear::new(reader))
    }
}

impl LinearOp for RowsMatrix {
    fn shape(&self) -> (usize, usize) {
        self.0.shape()
    }

    fn granule(&self) -> NonZeroUsize {
        self.0.granule()
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        let ((_, columns), batch) = (self.shape(), x.batch());
        if batch <= 1 {
            return self.0.apply(product, rows, x, y);
        }
        check_product(self.shape(), product, &rows, x, y)?;
        self.0.tiles(rows.clone(), TILE, |part, tile| match product {
            Product::Forward => {
                let y = &mut y[(part.start - rows.start) * batch..(part.end - rows.start) * batch];
                forward(tile, columns, x, y);
            }
            Product::Transposed => transposed(tile, columns, part, x, y),
        })
    }

    fn divides(&self) -> bool {
        self.0.divides()
    }

    fn tolerance(&self) -> f32 {
        self.0.tolerance()
    }

    fn resident_bytes(&self) -> u64 {
        self.0.resident_bytes()
    }
}

/// An operator for vectors, beside the generic one for batches.
#[derive(Debug)]
pub(crate) struct VectorMatrix {
    vectors: Box<dyn LinearOp>,
    batches: RowsMatrix,
}

impl VectorMatrix {
    /// Both are operators of the same matrix and share its bytes.
    pub(crate) fn new(vectors: Box<dyn LinearOp>, batches: RowsMatrix) -> Self {
        Self { vectors, batches }
    }
}

impl LinearOp for VectorMatrix {
    fn shape(&self) -> (usize, usize) {
        self.vectors.shape()
    }

    fn granule(&self) -> NonZeroUsize {
        self.vectors.granule().max(self.batches.granule())
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        if x.batch() == 1 { self.vectors.apply(product, rows, x, y) } else { self.batches.apply(product, rows, x, y) }
    }

    fn divides(&self) -> bool {
        self.vectors.divides()
    }

    fn tolerance(&self) -> f32 {
        self.vectors.tolerance().max(self.batches.tolerance())
    }

    fn resident_bytes(&self) -> u64 {
        self.vectors.resident_bytes()
    }
}

/// `y = tile·xᵀ`, of `rows × batch`.
pub(crate) fn forward(tile: &[f32], columns: usize, x: &Inputs<'_>, y: &mut [f32]) {
    let rows = tile.len() / columns;
    let w = MatRef::from_row_major_slice(tile, rows, columns);
    let x = MatRef::from_row_major_slice(x.values(), x.batch(), columns);
    let y = MatMut::from_row_major_slice_mut(y, rows, x.nrows());
    matmul(y, Accum::Replace, w, x.transpose(), 1.0, Par::Seq);
}

/// Outputs that are computed at a time: those of a batch stay in the second-level cache until they
/// are transposed.
const OUTPUTS: usize = 512;

/// `y = x·tileᵀ`, `batch × rows`. Each row of `y` begins `stride` values after the one before; the
/// batch is not empty.
///
/// The product writes the values of an output side by side: faer is fastest so.
pub(crate) fn vectors(tile: &[f32], columns: usize, x: &Inputs<'_>, (y, stride): (&mut [f32], usize)) {
    let mut by_outputs = vec![0.0; OUTPUTS.min(tile.len() / columns) * x.batch()];
    for (share, tile) in tile.chunks(OUTPUTS * columns).enumerate() {
        let rows = tile.len() / columns;
        let by_outputs = &mut by_outputs[..rows * x.batch()];
        forward(tile, columns, x, by_outputs);
        transpose_to((rows, x.batch()), by_outputs, &mut y[share * OUTPUTS..], stride);
    }
}

/// `y += tileᵀ·x`, of `columns × batch`, with the inputs `part` of each vector.
fn transposed(tile: &[f32], columns: usize, part: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) {
    let w = MatRef::from_row_major_slice(tile, part.len(), columns);
    let x = MatRef::from_row_major_slice(x.values(), x.batch(), x.width()).subcols(part.start, part.len());
    let y = MatMut::from_row_major_slice_mut(y, columns, x.nrows());
    matmul(y, Accum::Add, w.transpose(), x.transpose(), 1.0, Par::Seq);
}
