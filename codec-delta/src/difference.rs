//! Shared by the lossy codecs: the difference between tensor and base as f32, and the sum.

use codec_api::util::{first_non_finite, widen};
use codec_api::{BaseTensor, CodecError, Result, TensorView};

/// `tensor − base`, rounded to f32 and clamped to its range.
///
/// # Errors
/// [`CodecError::Unsuitable`] with the index of the first NaN or infinity in the base; those of
/// [`TensorView::to_finite_f32`].
pub(crate) fn subtract(tensor: &TensorView<'_>, base: &BaseTensor<'_>) -> Result<Vec<f32>> {
    let (mut differences, base) = (tensor.to_finite_f32()?.into_owned(), base.view.to_f32()?);
    if let Some(index) = first_non_finite(&base) {
        let reason = "a value of the base tensor is not finite, so there is no difference: flat index".to_owned();
        return Err(CodecError::Unsuitable { reason, number: index as f64 });
    }
    for (w, b) in differences.iter_mut().zip(&*base) {
        *w = (*w - b).clamp(f32::MIN, f32::MAX);
    }
    Ok(differences)
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
/// [`CodecError::Usage`] if the length of `out` differs.
pub(crate) fn write_base(base: &BaseTensor<'_>, out: &mut [f32]) -> Result<()> {
    widen(base.view.spec().dtype(), base.view.bytes(), out)
}
