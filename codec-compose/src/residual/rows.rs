//! Ranges of rows: the sum of the rows of both codecs.

use std::cell::RefCell;
use std::mem;
use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{DecodeCx, PayloadView, Result, RowReader, Rows, TensorSpec, check_rows, open_rows};

use super::{FIRST, Residual, SECOND, common, rest_spec};

/// Weights of `second` that are read and added at a time; they stay in the cache.
const TILE: usize = 1 << 12;
/// Longest buffer that a thread keeps. Longer rows are those of vectors, which are read once.
const KEPT: usize = 1 << 18;

thread_local! {
    /// Buffers of this thread that are not in use. A nested residual needs one of its own.
    static BUFFERS: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `run` with a buffer. Only the first calls of a thread allocate, unless the buffer is very
/// long.
fn with_buffer<R>(len: usize, run: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = run(&mut buffer[..len]);
    if buffer.len() <= KEPT {
        BUFFERS.with_borrow_mut(|buffers| buffers.push(buffer));
    }
    result
}

impl Rows for Residual {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        let first = open_rows(&*self.first, spec, payload.scoped(FIRST), cx)?;
        let second = open_rows(&*self.second, &rest_spec(spec)?, payload.scoped(SECOND), &cx.for_child())?;
        let (rows, columns) = second.shape();
        let at_once = (TILE / columns.max(1)).max(1).next_multiple_of(second.granule().get()).min(rows.max(1));
        Ok(Box::new(Sum { first, second, at_once }))
    }
}

#[derive(Debug)]
struct Sum {
    first: Box<dyn RowReader>,
    second: Box<dyn RowReader>,
    /// Rows of `second` that are read at a time.
    at_once: usize,
}

impl Sum {
    /// Adds rows of `second` to `out`.
    fn add(&self, rows: Range<usize>, buffer: &mut [f32], mut out: &mut [f32]) -> Result<()> {
        let mut start = rows.start;
        while start < rows.end {
            let end = (start + 1).next_multiple_of(self.at_once).min(rows.end);
            let (part, later) = mem::take(&mut out).split_at_mut((end - start) * self.second.shape().1);
            let rest = &mut buffer[..part.len()];
            self.second.read(start..end, rest)?;
            for (w, rest) in part.iter_mut().zip(rest) {
                *w = (*w + *rest).clamp(f32::MIN, f32::MAX);
            }
            (start, out) = (end, later);
        }
        Ok(())
    }
}

impl RowReader for Sum {
    fn shape(&self) -> (usize, usize) {
        self.first.shape()
    }

    fn granule(&self) -> NonZeroUsize {
        common(self.first.granule(), self.second.granule())
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape(), &rows, out)?;
        self.first.read(rows.clone(), out)?;
        with_buffer(self.at_once.min(rows.len()) * self.shape().1, |buffer| self.add(rows, buffer, out))
    }

    fn resident_bytes(&self) -> u64 {
        self.first.resident_bytes() + self.second.resident_bytes()
    }
}
