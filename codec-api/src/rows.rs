//! Reading ranges of rows of an encoded matrix.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable, cast_slice_mut};

use crate::codec::Codec;
use crate::context::DecodeCx;
use crate::error::{CodecError, Result};
use crate::payload::PayloadView;
use crate::tensor::TensorSpec;
use crate::util::zeros;

/// A codec that decodes any range of rows of the matrix view without decoding the others.
pub trait Rows {
    /// Opens a payload and checks it. The reader shares the sections' bytes. It returns the same
    /// values as [`Codec::decode`], bit for bit.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>>;
}

/// The rows of an opened payload. Several threads can share a reader.
pub trait RowReader: Debug + Send + Sync {
    /// Rows and columns of the matrix view.
    fn shape(&self) -> (usize, usize);

    /// The granule: a read of this many rows costs no more than a read of one row. Ranges that
    /// begin at multiples of the granule waste no work.
    fn granule(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// Decodes `rows`, row-major, without allocating; `out` has exactly their size.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the range or the length is wrong ([`check_rows`]);
    /// [`CodecError::Corrupt`] if the read finds damage that the check at opening did not find.
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()>;

    /// Heap and memory-mapped bytes that the reader keeps.
    fn resident_bytes(&self) -> u64;
}

impl<T: RowReader + ?Sized> RowReader for Arc<T> {
    fn shape(&self) -> (usize, usize) {
        (**self).shape()
    }

    fn granule(&self) -> NonZeroUsize {
        (**self).granule()
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        (**self).read(rows, out)
    }

    fn resident_bytes(&self) -> u64 {
        (**self).resident_bytes()
    }
}

/// Checks the arguments of [`RowReader::read`] for a matrix of `(rows, columns)`.
///
/// # Errors
/// [`CodecError::Usage`] with all sizes.
pub fn check_rows((rows, columns): (usize, usize), range: &Range<usize>, out: &[f32]) -> Result<()> {
    if range.start <= range.end && range.end <= rows && out.len() == range.len() * columns {
        return Ok(());
    }
    let range = format!("rows {}..{} of a matrix of {rows} x {columns}", range.start, range.end);
    Err(CodecError::Usage(format!("{range} into a buffer of {} elements", out.len())))
}

/// Memory for decoded rows, which grows but does not shrink. It begins at a cache line, because
/// vector instructions are much slower on values that lie in two lines.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<Line>);

#[derive(Clone, Copy, Debug, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Buffer {
    /// The first `len` values of the buffer; their contents are not specified.
    ///
    /// # Errors
    /// [`CodecError::Limit`] if there is not enough memory.
    fn first(&mut self, len: usize) -> Result<&mut [f32]> {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0 = zeros(lines)?;
        }
        Ok(&mut cast_slice_mut(&mut self.0[..lines])[..len])
    }

    /// Bytes of the buffer.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Calls `visit` with each tile of `rows` and its decoded values, which it may change. A tile has
/// about `weights` weights, but at least one row of `columns` weights, and whole granules. The
/// values are decoded into `buffer`.
///
/// # Errors
/// The errors of the reader and of `visit`.
pub(crate) fn tiles(
    reader: &dyn RowReader,
    rows: Range<usize>,
    columns: usize,
    weights: usize,
    buffer: &mut Buffer,
    mut visit: impl FnMut(Range<usize>, &mut [f32]) -> Result<()>,
) -> Result<()> {
    for part in parts(reader, rows, columns, weights) {
        let values = buffer.first(part.len() * columns)?;
        reader.read(part.clone(), values)?;
        visit(part, values)?;
    }
    Ok(())
}

/// The rows of each tile of [`tiles`].
pub(crate) fn parts(
    reader: &dyn RowReader,
    rows: Range<usize>,
    columns: usize,
    weights: usize,
) -> impl Iterator<Item = Range<usize>> {
    let at_once = (weights / columns.max(1)).max(1).next_multiple_of(reader.granule().get());
    rows.clone().step_by(at_once).map(move |first| first..(first + at_once).min(rows.end))
}

/// Opens the rows of a payload of any codec, after [`PayloadView::check_size`]. For a codec without
/// [`Codec::as_rows`], this function decodes all rows and the reader keeps them.
///
/// # Errors
/// As [`Codec::decode`] and [`PayloadView::check_size`]. [`CodecError::Limit`] if rows that have to
/// be kept take more than [`DecodeCx::output_limit`].
pub fn open_rows(
    codec: &dyn Codec,
    spec: &TensorSpec,
    payload: PayloadView<'_>,
    cx: &DecodeCx<'_>,
) -> Result<Box<dyn RowReader>> {
    payload.check_size(codec, spec)?;
    open_of_any_size(codec, spec, payload, cx)
}

/// [`open_rows`] of a payload whose size the caller has checked, or knows to be right.
pub(crate) fn open_of_any_size(
    codec: &dyn Codec,
    spec: &TensorSpec,
    payload: PayloadView<'_>,
    cx: &DecodeCx<'_>,
) -> Result<Box<dyn RowReader>> {
    if let Some(rows) = codec.as_rows() {
        return rows.open(spec, payload, cx);
    }
    let mut values = cx.zeros(spec.elements(), payload.total_bytes())?;
    codec.decode(spec, payload, cx, &mut values)?;
    Ok(Box::new(DecodedRows { shape: spec.matrix(), values }))
}

/// The rows of a payload that only decodes as a whole.
#[derive(Debug)]
struct DecodedRows {
    shape: (usize, usize),
    values: Vec<f32>,
}

impl RowReader for DecodedRows {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        out.copy_from_slice(&self.values[rows.start * self.shape.1..][..out.len()]);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        size_of_val(&*self.values) as u64
    }
}
