//! Conversions between f32 and the stored float dtypes.

use bytemuck::{cast_slice, cast_slice_mut};
use simd::LANES;

use crate::error::{CodecError, Result};
use crate::tensor::{Dtype, require_float};

/// Index of the first NaN or infinity.
pub fn first_non_finite(values: &[f32]) -> Option<usize> {
    const BLOCK: usize = 1024;
    const EXPONENT: u32 = 0x7f80_0000;
    // The maximum over exponent bits vectorises; only a block with a non-finite value is searched
    // for its position.
    for (block, part) in values.chunks(BLOCK).enumerate() {
        let largest = part.iter().fold(0, |m, v| (v.to_bits() & EXPONENT).max(m));
        if largest == EXPONENT {
            return part.iter().position(|v| !v.is_finite()).map(|i| block * BLOCK + i);
        }
    }
    None
}

/// Converts stored floats at any alignment to f32, without loss.
///
/// # Errors
/// [`CodecError::Unsupported`] for a dtype other than F32, F16 and BF16; [`CodecError::Usage`] if
/// `bytes` and `out` do not have the same number of elements.
pub fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    check(dtype, bytes.len(), out.len())?;
    if dtype == Dtype::F32 {
        cast_slice_mut(out).copy_from_slice(bytes);
        return Ok(());
    }
    let mut bits = [0; PIECE];
    for (bytes, values) in bytes.chunks(2 * PIECE).zip(out.chunks_mut(PIECE)) {
        let bits = &mut bits[..values.len()];
        cast_slice_mut(bits).copy_from_slice(bytes);
        from_bits(dtype, bits, values);
    }
    Ok(())
}

/// Rounds values to a stored float dtype, to nearest, ties to even. A finite value beyond the range
/// of the dtype becomes the largest finite number of the dtype: an error never becomes an infinity.
///
/// # Errors
/// As [`widen`].
pub fn narrow(dtype: Dtype, values: &[f32], bytes: &mut [u8]) -> Result<()> {
    check(dtype, bytes.len(), values.len())?;
    if dtype == Dtype::F32 {
        bytes.copy_from_slice(cast_slice(values));
        return Ok(());
    }
    let mut bits = [0; PIECE];
    for (values, bytes) in values.chunks(PIECE).zip(bytes.chunks_mut(2 * PIECE)) {
        let bits = &mut bits[..values.len()];
        to_bits(dtype, values, bits);
        bytes.copy_from_slice(cast_slice(bits));
    }
    Ok(())
}

/// The bytes of values in a stored float dtype, rounded as [`narrow`] does.
///
/// # Errors
/// [`CodecError::Unsupported`] for a dtype other than F32, F16 and BF16.
pub fn narrowed(dtype: Dtype, values: &[f32]) -> Result<Vec<u8>> {
    let mut bytes = vec![0; values.len() * dtype.bitsize() / 8];
    narrow(dtype, values, &mut bytes)?;
    Ok(bytes)
}

/// Rounds values in place to the nearest values of a stored float dtype, as [`narrow`] does.
///
/// # Errors
/// [`CodecError::Unsupported`] for a dtype other than F32, F16 and BF16.
pub fn round(dtype: Dtype, values: &mut [f32]) -> Result<()> {
    require_float(dtype)?;
    if dtype == Dtype::F32 {
        return Ok(());
    }
    let mut bits = [0; PIECE];
    for values in values.chunks_mut(PIECE) {
        let bits = &mut bits[..values.len()];
        to_bits(dtype, values, bits);
        from_bits(dtype, bits, values);
    }
    Ok(())
}

/// Values converted at a time.
const PIECE: usize = 16 * LANES;

/// The bits of F16 or BF16 values; infinities that come from finite values become the largest
/// finite number.
fn to_bits(dtype: Dtype, values: &[f32], bits: &mut [u16]) {
    let infinity = if dtype == Dtype::F16 {
        simd::f32_to_f16(values, bits);
        0x7c00
    } else {
        simd::f32_to_bf16(values, bits);
        0x7f80
    };
    // The maximum vectorises; only a piece with an infinity is searched for it.
    if bits.iter().fold(0, |most, b| most.max(*b & 0x7fff)) < infinity {
        return;
    }
    for (b, v) in bits.iter_mut().zip(values) {
        // One below an infinity is the largest finite number.
        *b -= u16::from(*b & 0x7fff == infinity && v.is_finite());
    }
}

/// The values of F16 or BF16 bits.
fn from_bits(dtype: Dtype, bits: &[u16], values: &mut [f32]) {
    if dtype == Dtype::F16 { simd::f16_to_f32(bits, values) } else { simd::bf16_to_f32(bits, values) }
}

fn check(dtype: Dtype, bytes: usize, values: usize) -> Result<()> {
    require_float(dtype)?;
    if bytes * 8 == values * dtype.bitsize() {
        return Ok(());
    }
    Err(CodecError::Usage(format!("{bytes} bytes are not {values} elements of {dtype}")))
}
