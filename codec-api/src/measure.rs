//! Measures the error of a payload: decodes it tile by tile and compares with the source.

use std::ops::Range;

use crate::certificate::Certificate;
use crate::codec::Codec;
use crate::context::DecodeCx;
use crate::error::{CodecError, Result};
use crate::payload::Payload;
use crate::rows::{RowReader, open_rows};
use crate::tensor::{TensorSpec, TensorView};
use crate::util::round;

/// Weights of a tile, which stays in the cache. A tile has at least one row.
const TILE: usize = 1 << 15;

/// The certificate of a payload that `codec` made from `tensor`.
pub(crate) fn measure(
    codec: &dyn Codec,
    tensor: &TensorView<'_>,
    payload: &Payload,
    cx: &DecodeCx<'_>,
) -> Result<Certificate> {
    if let Some(lossless) = codec.as_lossless() {
        let mut decoded = vec![0; tensor.spec().byte_len()];
        lossless.decode_bytes(tensor.spec(), payload.view(), cx, &mut decoded)?;
        if decoded != tensor.bytes() {
            return Err(CodecError::corrupt("*", "it does not decode to the bytes that it was made from"));
        }
        return Ok(Certificate::exact(energy(tensor)?));
    }
    let reader = open_rows(codec, tensor.spec(), payload.view(), cx)?;
    let mut sum = Certificate { exact: false, ..Certificate::EMPTY };
    tiles(&*reader, tensor.spec(), cx, |rows, decoded| {
        round(tensor.spec().dtype(), decoded)?;
        let source = tensor.rows(rows.start, rows.end)?;
        sum.add(&Certificate::measure(&source.to_f32()?, decoded));
        Ok(())
    })?;
    Ok(sum)
}

/// Calls `visit` with each tile of rows of a tensor of `spec` and its decoded values, which it may
/// change.
pub(crate) fn tiles(
    reader: &dyn RowReader,
    spec: &TensorSpec,
    cx: &DecodeCx<'_>,
    mut visit: impl FnMut(Range<usize>, &mut [f32]) -> Result<()>,
) -> Result<()> {
    let (rows, columns) = spec.matrix();
    let at_once = (TILE / columns.max(1)).max(1).next_multiple_of(reader.granule().get()).min(rows.max(1));
    let mut values = vec![0.0; at_once * columns];
    for first in (0..rows).step_by(at_once) {
        cx.cancel.check()?;
        let range = first..(first + at_once).min(rows);
        let values = &mut values[..range.len() * columns];
        reader.read(range.clone(), values)?;
        visit(range, values)?;
    }
    Ok(())
}

/// `Σ w²` over the finite values of a float tensor; 0 for other dtypes.
fn energy(tensor: &TensorView<'_>) -> Result<f64> {
    if !tensor.spec().is_float() {
        return Ok(0.0);
    }
    let (rows, columns) = tensor.spec().matrix();
    let at_once = (TILE / columns.max(1)).max(1);
    let mut sum = 0.0;
    for first in (0..rows).step_by(at_once) {
        let tile = tensor.rows(first, (first + at_once).min(rows))?;
        let values = tile.to_f32()?;
        let all = Certificate::measure(&values, &values).energy;
        let finite = || values.iter().filter(|v| v.is_finite()).map(|v| f64::from(*v) * f64::from(*v)).sum();
        sum += if all.is_finite() { all } else { finite() };
    }
    Ok(sum)
}
