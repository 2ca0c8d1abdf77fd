//! Shared by the lossy codecs: the difference between tensor and base as f32, and the sum.

use std::borrow::Cow;

use codec_api::{BaseTensor, CodecError, Result, first_non_finite, widen};

/// The values of a base to encode against.
///
/// # Errors
/// [`CodecError::Unsuitable`] with the index of the first NaN or infinity; those of
/// [`codec_api::TensorView::to_f32`].
pub(crate) fn finite_base<'a>(base: &BaseTensor<'a>) -> Result<Cow<'a, [f32]>> {
    let values = base.view.to_f32()?;
    match first_non_finite(&values) {
        Some(index) => {
            let reason = "a value of the base tensor is not finite, so there is no difference: flat index".to_owned();
            Err(CodecError::Unsuitable { reason, number: index as f64 })
        }
        None => Ok(values),
    }
}

/// `values − base`, rounded to f32 and clamped to its range.
pub(crate) fn subtract(values: &[f32], base: &[f32]) -> Vec<f32> {
    values.iter().zip(base).map(|(w, b)| (w - b).clamp(f32::MIN, f32::MAX)).collect()
}

/// `base + difference`, rounded to f32 and clamped to its range. A difference of 0, of either sign,
/// leaves the base unchanged, even −0.
#[inline(always)]
pub(crate) fn add(base: f32, difference: f32) -> f32 {
    let sum = (base + difference).clamp(f32::MIN, f32::MAX);
    if difference == 0.0 { base } else { sum }
}

/// Writes the base's values to `out`, where a decoder adds the differences.
///
/// # Errors
/// [`CodecError::Limit`] if the length of `out` differs.
pub(crate) fn write_base(base: &BaseTensor<'_>, out: &mut [f32]) -> Result<()> {
    widen(base.view.spec().dtype(), base.view.bytes(), out)
}
