//! Ranges of rows of a payload.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::util::{first_non_finite, widen};
use codec_api::{Bytes, Cancel, CodecError, Dtype, PayloadView, Result, RowReader, TensorSpec, check_rows};

use super::decode::{Reader, full_name};
use super::machine::States;

/// Section of a tensor that would take more than its stored bytes.
pub(super) const DATA: &str = "data";

/// An opened payload.
#[derive(Debug)]
pub(super) struct Opened {
    shape: (usize, usize),
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// The stored bytes, and the full name of their section.
    Stored {
        dtype: Dtype,
        data: Bytes,
        name: String,
    },
    Coded(Box<Reader>),
}

impl Opened {
    pub(super) fn new(states: States, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let form = if payload.has(DATA) || spec.elements() == 0 {
            let data = payload.bytes(DATA, spec.dtype(), spec.shape())?.clone();
            Form::Stored { dtype: spec.dtype(), data, name: full_name(payload, DATA) }
        } else {
            Form::Coded(Box::new(Reader::new(states, spec, payload)?))
        };
        Ok(Self { shape: spec.matrix(), form })
    }

    /// Decodes a range of the flat tensor.
    pub(super) fn weights(&self, weights: Range<usize>, cancel: &Cancel, out: &mut [f32]) -> Result<()> {
        let (dtype, data, name) = match &self.form {
            Form::Stored { dtype, data, name } => (*dtype, data, name),
            Form::Coded(reader) => return reader.decode(weights, cancel, out),
        };
        let width = dtype.bitsize() / 8;
        widen(dtype, &data[weights.start * width..weights.end * width], out)?;
        let Some(at) = first_non_finite(out) else { return Ok(()) };
        Err(CodecError::corrupt(name, format!("weight {} is not finite", weights.start + at)))
    }
}

impl RowReader for Opened {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn granule(&self) -> NonZeroUsize {
        let rows = if let Form::Coded(reader) = &self.form { reader.granule() } else { 1 };
        NonZeroUsize::new(rows).unwrap_or(NonZeroUsize::MIN)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let columns = self.shape.1;
        self.weights(rows.start * columns..rows.end * columns, &Cancel::new(), out)
    }

    fn resident_bytes(&self) -> u64 {
        match &self.form {
            Form::Stored { data, name, .. } => (size_of::<Self>() + name.len() + data.len()) as u64,
            Form::Coded(reader) => (size_of::<Self>() + reader.resident_bytes()) as u64,
        }
    }
}
