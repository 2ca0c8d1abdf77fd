//! Tensors as codecs see them: a dtype, a shape, and little-endian bytes at any alignment.

use std::borrow::Cow;
use std::fmt;

use ndarray::ArrayD;
pub use safetensors::Dtype;

use crate::error::{CodecError, Result};
use crate::util::{first_non_finite, widen};

/// Largest number of elements of a tensor: byte and bit counts with any overhead then fit in 64
/// bits.
const MAX_ELEMENTS: usize = 1 << 48;

/// In a tensor of three or more axes, a last axis of at least this length is a row of the matrix
/// view.
const SHORTEST_ROW: usize = 64;

/// The dtype and shape of a tensor, row-major ("C" order). The constructor checks its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    dtype: Dtype,
    shape: Vec<usize>,
    elements: usize,
    byte_len: usize,
}

impl TensorSpec {
    /// A spec with checked sizes.
    ///
    /// # Errors
    /// [`CodecError::Limit`] if there are more than 2⁴⁸ elements, empty axes counted as 1;
    /// [`CodecError::Unsupported`] if the elements of a sub-byte dtype do not fill whole bytes.
    pub fn new(dtype: Dtype, shape: impl Into<Vec<usize>>) -> Result<Self> {
        let shape = shape.into();
        // The other axes of an empty tensor are limited too, so that no product of axes can
        // overflow.
        let extent = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).filter(|n| *n <= MAX_ELEMENTS);
        let Some(extent) = extent else {
            let reason = format!("a {dtype} tensor of shape {shape:?} has more than {MAX_ELEMENTS} elements");
            return Err(CodecError::Limit(reason));
        };
        let elements = if shape.contains(&0) { 0 } else { extent };
        let bits = elements * dtype.bitsize();
        if !bits.is_multiple_of(8) {
            return Err(CodecError::Unsupported(format!(
                "{elements} elements of {dtype} do not fill a whole number of bytes"
            )));
        }
        Ok(Self { dtype, shape, elements, byte_len: bits / 8 })
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Extent of each axis, outermost first. Empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Size of the stored tensor in bytes.
    pub fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// The matrix view `(rows, columns)`: what codecs call a row, and what a linear operator
    /// multiplies with. It follows from the shape alone:
    ///
    /// | shape | what it usually is | rows × columns |
    /// |---|---|---|
    /// | `[]`, `[n]` | scalar, vector | `1 × n` |
    /// | `[out, in]` | linear layer, embedding | `out × in` |
    /// | `[experts, out, in]`, `in` ≥ 64 | stack of experts | `experts·out × in` |
    /// | `[out, in, k]`, `k` < 64 | convolution in one dimension | `out × in·k` |
    /// | `[out, in, k, k]` | convolution in two dimensions | `out × in·k·k` |
    /// | `[out, in, k, k, k]` | convolution in three dimensions | `out × in·k·k·k` |
    ///
    /// With three or more axes, the length of the last axis decides. A last axis of at least 64 is
    /// a row of its own, and all other axes count rows, so that no block of a block format runs
    /// from one matrix of a stack into the next. A shorter last axis belongs to a kernel, whose row
    /// holds all weights of one output. A long kernel (`[512, 1, 128]`) has the rows of a stack.
    ///
    /// A tensor without elements is `(0, 0)` whatever its axes are, so that no loop runs over empty
    /// rows.
    pub fn matrix(&self) -> (usize, usize) {
        match self.shape.as_slice() {
            _ if self.elements == 0 => (0, 0),
            [] => (1, 1),
            [n] => (1, *n),
            [rows @ .., last] if *last >= SHORTEST_ROW => (rows.iter().product(), *last),
            [rows, columns @ ..] => (*rows, columns.iter().product()),
        }
    }

    /// The spec of `rows` rows of the matrix view, as [`TensorView::rows`] returns them.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] if the rows of a sub-byte dtype do not fill whole bytes.
    pub fn with_rows(&self, rows: usize) -> Result<Self> {
        let (all, columns) = self.matrix();
        let shape = match self.shape.as_slice() {
            // A single row: the result is the whole tensor or an empty one.
            [] | [_] => return if rows > 0 { Ok(self.clone()) } else { Self::new(self.dtype, [0]) },
            _ if all == rows => self.shape.clone(),
            [first, others @ ..] if *first == all => [&[rows], others].concat(),
            _ => vec![rows, columns],
        };
        Self::new(self.dtype, shape)
    }

    /// Whether the dtype is F32, F16 or BF16: each of their values is exactly an f32.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }

    /// Refuses every dtype except F32, F16 and BF16. A lossy codec calls it first in `accepts`.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] naming the dtype.
    pub fn require_float(&self) -> Result<()> {
        require_float(self.dtype)
    }

    /// Refuses tensors whose rows ([`Self::matrix`]) are not a whole number of blocks of `block`
    /// elements.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] with the row length and `block`.
    pub fn require_whole_blocks(&self, block: usize) -> Result<()> {
        let (_, columns) = self.matrix();
        if columns.is_multiple_of(block) {
            return Ok(());
        }
        Err(CodecError::Unsupported(format!("rows of {columns} elements are not whole blocks of {block}")))
    }

    /// Checks that the output buffer of a decoder has exactly `elements()` places.
    ///
    /// # Errors
    /// [`CodecError::Usage`] with both lengths.
    pub fn check_output(&self, len: usize) -> Result<()> {
        if len == self.elements {
            return Ok(());
        }
        Err(CodecError::Usage(format!("the output buffer has {len} elements, the tensor {}", self.elements)))
    }

    /// Checks that the output buffer of an exact decoder has exactly `byte_len()` bytes.
    ///
    /// # Errors
    /// [`CodecError::Usage`] with both lengths.
    pub fn check_output_bytes(&self, len: usize) -> Result<()> {
        if len == self.byte_len {
            return Ok(());
        }
        Err(CodecError::Usage(format!("the output buffer has {len} bytes, the tensor {}", self.byte_len)))
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.shape)
    }
}

/// As [`TensorSpec::require_float`], for a dtype.
pub(crate) fn require_float(dtype: Dtype) -> Result<()> {
    if matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Ok(());
    }
    Err(CodecError::Unsupported(format!("dtype {dtype}: lossy codecs accept F32, F16 and BF16")))
}

/// A borrowed tensor: its spec and its little-endian bytes, at any alignment.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    spec: TensorSpec,
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// A view of stored `bytes`.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if `bytes` is not exactly as long as `spec` says.
    pub fn new(spec: TensorSpec, bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() != spec.byte_len() {
            return Err(CodecError::Usage(format!(
                "a tensor {spec} takes {} bytes, not {}",
                spec.byte_len(),
                bytes.len()
            )));
        }
        Ok(Self { spec, bytes })
    }

    /// A view of f32 `values`.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if `shape` does not have as many elements as `values`.
    pub fn from_f32(shape: impl Into<Vec<usize>>, values: &'a [f32]) -> Result<Self> {
        Self::new(TensorSpec::new(Dtype::F32, shape)?, bytemuck::cast_slice(values))
    }

    /// Dtype and shape.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The values as f32, row-major; borrowed if the bytes are f32 and aligned.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] for a dtype other than F32, F16 and BF16.
    pub fn to_f32(&self) -> Result<Cow<'a, [f32]>> {
        self.spec.require_float()?;
        if self.spec.dtype == Dtype::F32
            && let Ok(values) = bytemuck::try_cast_slice(self.bytes)
        {
            return Ok(Cow::Borrowed(values));
        }
        let mut out = vec![0.0; self.spec.elements];
        widen(self.spec.dtype, self.bytes, &mut out)?;
        Ok(Cow::Owned(out))
    }

    /// Like [`Self::to_f32`], for lossy codecs: refuses NaN and infinities.
    ///
    /// # Errors
    /// As [`Self::to_f32`]; [`CodecError::NonFinite`] with the index of the first non-finite value.
    pub fn to_finite_f32(&self) -> Result<Cow<'a, [f32]>> {
        let values = self.to_f32()?;
        match first_non_finite(&values) {
            Some(index) => Err(CodecError::NonFinite { index }),
            None => Ok(values),
        }
    }

    /// The values as an f32 array of the tensor's shape.
    ///
    /// # Errors
    /// As [`Self::to_f32`].
    pub fn to_array(&self) -> Result<ArrayD<f32>> {
        let values = self.to_f32()?.into_owned();
        ArrayD::from_shape_vec(self.spec.shape.as_slice(), values).map_err(CodecError::codec)
    }

    /// Rows `first..last` of the matrix view as a tensor of their own, whose matrix view has the
    /// same columns.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the range is outside the tensor; [`CodecError::Unsupported`] if it
    /// begins or ends inside a byte of a sub-byte dtype.
    pub fn rows(&self, first: usize, last: usize) -> Result<Self> {
        let (rows, columns) = self.spec.matrix();
        if first > last || last > rows {
            return Err(CodecError::Usage(format!("rows {first}..{last} of a tensor with {rows} rows")));
        }
        let spec = self.spec.with_rows(last - first)?;
        let first_bit = columns * self.spec.dtype.bitsize() * first;
        if !first_bit.is_multiple_of(8) {
            return Err(CodecError::Unsupported(format!("row {first} does not begin at a byte")));
        }
        let bytes = &self.bytes[first_bit / 8..][..spec.byte_len];
        Self::new(spec, bytes)
    }
}
