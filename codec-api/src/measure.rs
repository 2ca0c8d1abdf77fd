//! Measures the error of a payload: decodes it tile by tile and compares with the source.

use crate::certificate::Certificate;
use crate::codec::Codec;
use crate::context::DecodeCx;
use crate::error::{CodecError, Result};
use crate::payload::Payload;
use crate::rows::{Buffer, open_of_any_size, tiles};
use crate::tensor::TensorView;
use crate::util::round;

/// Weights of a tile, at least one row. The first-level cache holds the tile and its source.
pub(crate) const TILE: usize = 1 << 12;

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
    // The source has as many weights, so no output is too large.
    let cx = &cx.clone().with_max_output(u64::MAX);
    let reader = open_of_any_size(codec, tensor.spec(), payload.view(), cx)?;
    let mut sum = Certificate::LOSSY;
    let (rows, columns) = tensor.spec().matrix();
    tiles(&*reader, 0..rows, columns, TILE, &mut Buffer::default(), |rows, decoded| {
        cx.cancel.check()?;
        round(tensor.spec().dtype(), decoded)?;
        let source = tensor.rows(rows.start, rows.end)?;
        sum.add(&Certificate::measure(&source.to_f32()?, decoded));
        Ok(())
    })?;
    Ok(sum)
}

/// `Σ w²` over the finite values of a float tensor; 0 for other dtypes.
pub(crate) fn energy(tensor: &TensorView<'_>) -> Result<f64> {
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
