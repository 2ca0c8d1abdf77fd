//! Ranges of rows: each is rotated back on its own.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{Cancel, DecodeCx, PayloadView, Result, RowReader, Rows, TensorSpec, open_rows};

use super::rotation::Rotation;
use super::{Hadamard, INNER, rotated_spec};

impl Rows for Hadamard {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        // This comes first: it refuses a payload that is too small for the row that the signs take.
        let inner = open_rows(&*self.inner, &rotated_spec(spec)?, payload.scoped(INNER), &cx.for_child())?;
        Ok(Box::new(RotatedRows { inner, rotation: self.rotation(spec)? }))
    }
}

#[derive(Debug)]
struct RotatedRows {
    inner: Box<dyn RowReader>,
    rotation: Rotation,
}

impl RowReader for RotatedRows {
    fn shape(&self) -> (usize, usize) {
        self.inner.shape()
    }

    fn granule(&self) -> NonZeroUsize {
        self.inner.granule()
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        self.inner.read(rows, out)?;
        self.rotation.backward(out, &Cancel::new())
    }

    fn resident_bytes(&self) -> u64 {
        self.inner.resident_bytes() + self.rotation.resident_bytes() as u64
    }
}
