//! Dense weights in their stored dtype.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};
use codec_api::util::{transpose, widen, zeros};
use codec_api::{
    Codec, Dtype, EncodeCx, EncodedTensor, Inputs, LinearOp, Product, Result, RowReader, TensorSpec, TensorView,
    check_product, check_rows, check_vectors,
};

use crate::kernels::{Bf16, F16, Stored, dots};
use crate::rows::{RowsMatrix, forward, vectors};

/// A cache line. Vector instructions are slower on values that lie in two lines.
#[derive(Clone, Copy, Debug, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A row-major matrix, aligned to cache lines.
#[derive(Debug)]
pub(crate) struct Dense {
    lines: Vec<Line>,
    dtype: Dtype,
    rows: usize,
    columns: usize,
}

impl Dense {
    /// Memory for a matrix of F32, F16 or BF16 values.
    ///
    /// # Errors
    /// [`codec_api::CodecError::Limit`] without enough memory.
    pub(crate) fn zeros(dtype: Dtype, rows: usize, columns: usize) -> Result<Self> {
        let bytes = rows * columns * dtype.bitsize() / 8;
        Ok(Self { lines: zeros(bytes.div_ceil(size_of::<Line>()))?, dtype, rows, columns })
    }

    /// The stored bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        &mut cast_slice_mut(&mut self.lines)[..len]
    }

    fn bytes(&self) -> &[u8] {
        &cast_slice(&self.lines)[..self.len()]
    }

    fn len(&self) -> usize {
        self.rows * self.columns * self.dtype.bitsize() / 8
    }

    /// The values of some rows; `T` is of the dtype of the matrix.
    fn values<T: Stored>(&self, rows: Range<usize>) -> &[T] {
        let all: &[T] = cast_slice(&self.lines);
        &all[rows.start * self.columns..rows.end * self.columns]
    }

    /// Index of the first NaN or infinity.
    pub(crate) fn first_non_finite(&self) -> Option<usize> {
        let mask: u16 = if self.dtype == Dtype::F16 { 0x7c00 } else { 0x7f80 };
        match self.dtype {
            Dtype::F32 => codec_api::util::first_non_finite(cast_slice(self.bytes())),
            _ => cast_slice(self.bytes()).iter().position(|bits: &u16| bits & mask == mask),
        }
    }

    /// The transposed matrix.
    ///
    /// # Errors
    /// As [`Self::zeros`].
    pub(crate) fn transposed(&self) -> Result<Self> {
        let mut turned = Self::zeros(self.dtype, self.columns, self.rows)?;
        let shape = (self.rows, self.columns);
        if self.dtype == Dtype::F32 {
            transpose::<u32>(shape, cast_slice(self.bytes()), cast_slice_mut(turned.bytes_mut()));
        } else {
            transpose::<u16>(shape, cast_slice(self.bytes()), cast_slice_mut(turned.bytes_mut()));
        }
        Ok(turned)
    }
}

impl Dense {
    /// The matrix, encoded.
    ///
    /// # Errors
    /// Those of the codec.
    pub(crate) fn encode(&self, codec: Arc<dyn Codec>) -> Result<EncodedTensor> {
        let spec = TensorSpec::new(self.dtype, [self.rows, self.columns])?;
        EncodedTensor::encode(codec, TensorView::new(spec, self.bytes())?, &EncodeCx::new(0))
    }
}

impl RowReader for Dense {
    fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape(), &rows, out)?;
        let width = self.columns * self.dtype.bitsize() / 8;
        widen(self.dtype, &self.bytes()[rows.start * width..rows.end * width], out)
    }

    fn resident_bytes(&self) -> u64 {
        size_of_val(&*self.lines) as u64
    }
}

/// The operator of a dense matrix.
#[derive(Debug)]
pub(crate) struct DenseMatrix {
    dense: Arc<Dense>,
    /// Multiplies with batches of 16-bit floats, and with the transposed matrix.
    generic: RowsMatrix,
}

impl DenseMatrix {
    pub(crate) fn new(dense: Arc<Dense>) -> Self {
        let generic = RowsMatrix::new(Box::new(Arc::clone(&dense)));
        Self { dense, generic }
    }
}

/// The operator of a tensor.
///
/// # Errors
/// As [`crate::dense_operator`].
pub(crate) fn dense_operator(tensor: &TensorView<'_>) -> Result<Box<dyn LinearOp>> {
    tensor.spec().require_float()?;
    let (rows, columns) = tensor.spec().matrix();
    let mut dense = Dense::zeros(tensor.spec().dtype(), rows, columns)?;
    dense.bytes_mut().copy_from_slice(tensor.bytes());
    Ok(Box::new(DenseMatrix::new(Arc::new(dense))))
}

impl LinearOp for DenseMatrix {
    fn shape(&self) -> (usize, usize) {
        self.dense.shape()
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        let (dense, batch) = (&*self.dense, x.batch());
        if product == Product::Transposed || batch == 0 || (batch > 1 && dense.dtype != Dtype::F32) {
            return self.generic.apply(product, rows, x, y);
        }
        check_product(self.shape(), product, &rows, x, y)?;
        match dense.dtype {
            Dtype::F32 if batch > 1 => forward(dense.values(rows), dense.columns, x, y),
            Dtype::F32 => dots::<f32>(dense.values(rows), x.values(), y),
            Dtype::F16 => dots::<F16>(dense.values(rows), x.values(), y),
            _ => dots::<Bf16>(dense.values(rows), x.values(), y),
        }
        Ok(())
    }

    fn divides(&self) -> bool {
        true
    }

    fn apply_vectors(
        &self,
        product: Product,
        outputs: Range<usize>,
        x: &Inputs<'_>,
        y: &mut [f32],
        stride: usize,
    ) -> Result<()> {
        let (dense, count) = (&*self.dense, outputs.len());
        check_vectors(self.shape(), product, &outputs, x, (y, stride))?;
        if x.batch() == 1 {
            return self.apply_outputs(product, outputs, x, &mut y[..count]);
        }
        if product == Product::Transposed || dense.dtype != Dtype::F32 || count * x.batch() == 0 {
            return self.generic.apply_vectors(product, outputs, x, y, stride);
        }
        vectors(dense.values(outputs), dense.columns, x, (y, stride));
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        self.generic.tolerance()
    }

    fn resident_bytes(&self) -> u64 {
        self.dense.resident_bytes()
    }
}

#[cfg(test)]
mod tests {
    use codec_api::RowsLinear;
    use codec_api::util::narrow;
    use simd::{Level, with_level};

    use super::*;

    #[test]
    fn products_with_a_vector_have_the_bits_of_the_operator_over_decoded_rows() {
        const ROWS: usize = 5;
        let values = |n: usize| -> Vec<f32> { (0..n).map(|i| libm::sinf(i as f32) * 1.7).collect() };
        for (dtype, columns) in [Dtype::F32, Dtype::F16, Dtype::BF16]
            .into_iter()
            .flat_map(|dtype| [1, 15, 16, 37, 64, 203].map(|columns| (dtype, columns)))
        {
            let mut dense = Dense::zeros(dtype, ROWS, columns).unwrap();
            narrow(dtype, &values(ROWS * columns), dense.bytes_mut()).unwrap();
            let dense = Arc::new(dense);
            let (generic, own) = (RowsLinear::new(Box::new(Arc::clone(&dense))), DenseMatrix::new(dense));
            let x = values(columns);
            let product = |operator: &dyn LinearOp| {
                let mut y = [0.0; ROWS];
                operator.apply(Product::Forward, 0..ROWS, &Inputs::new(&x, 1).unwrap(), &mut y).unwrap();
                y.map(f32::to_bits)
            };
            for level in Level::available() {
                with_level(level, || assert_eq!(product(&own), product(&generic), "{dtype}, {columns}, {level}"));
            }
        }
    }
}
