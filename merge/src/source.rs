//! Where the values of a tensor come from.

use std::fmt;
use std::ops::Range;

use codec_api::util::widen;
use codec_api::{Bytes, TensorSpec};

use crate::error::{Error, Result};

/// A tensor that is read block by block. Threads share it.
pub trait Source: fmt::Debug + Send + Sync {
    /// Dtype and shape.
    fn spec(&self) -> &TensorSpec;

    /// Reads the elements from `start` on, row-major, as f32.
    ///
    /// # Errors
    /// If they are beyond the end, or cannot be read.
    fn read(&self, start: usize, out: &mut [f32]) -> Result<()>;

    /// Tells that these elements have been read, and are not needed for some time.
    fn release(&self, _elements: Range<usize>) {}
}

/// Values in memory, in the stored dtype: an array, or a part of a memory map.
#[derive(Clone)]
pub struct Stored {
    spec: TensorSpec,
    bytes: Bytes,
    /// Its memory is given back after reading.
    pages: Option<checkpoint::Pages>,
}

impl Stored {
    /// A tensor of these little-endian bytes, at any alignment.
    ///
    /// # Errors
    /// If the number of bytes is not that of the spec, or the dtype is not F32, F16 or BF16.
    pub fn new(spec: TensorSpec, bytes: Bytes) -> Result<Self> {
        spec.require_float()?;
        spec.check_output_bytes(bytes.len())?;
        Ok(Self { spec, bytes, pages: None })
    }

    /// As [`Self::new`]; the bytes belong to these memory maps.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn mapped(spec: TensorSpec, bytes: Bytes, pages: checkpoint::Pages) -> Result<Self> {
        Ok(Self { pages: Some(pages), ..Self::new(spec, bytes)? })
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({})", self.spec)
    }
}

impl Source for Stored {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<()> {
        let width = self.spec.dtype().bitsize() / 8;
        let range = check(&self.spec, start, out.len())?;
        Ok(widen(self.spec.dtype(), &self.bytes[range.start * width..range.end * width], out)?)
    }

    fn release(&self, elements: Range<usize>) {
        if let Some(pages) = &self.pages {
            let width = self.spec.dtype().bitsize() / 8;
            let bytes = elements.start * width..(elements.end * width).min(self.bytes.len());
            if let Some(bytes) = self.bytes.get(bytes) {
                pages.release(bytes);
            }
        }
    }
}

/// The range of elements, if the tensor has it.
///
/// # Errors
/// If it is beyond the end.
pub(crate) fn check(spec: &TensorSpec, start: usize, len: usize) -> Result<Range<usize>> {
    match start.checked_add(len) {
        Some(end) if end <= spec.elements() => Ok(start..end),
        _ => Err(Error::Method(format!("{len} elements from {start} on are beyond the end of {spec}"))),
    }
}
