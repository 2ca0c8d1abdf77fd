//! The loop of block encoders: part by part, with checks for cancellation and progress.

use codec_api::{CodecError, EncodeCx, Result, first_non_finite};

/// Weights of a part, unless a format needs another size.
pub(crate) const PART: usize = 1 << 14;

/// A part of a tensor, small enough for the cache.
pub(crate) struct Part<'a> {
    pub(crate) values: &'a [f32],
    /// The weights after the part, for prefetching.
    pub(crate) next: &'a [f32],
    /// Index of the first weight.
    pub(crate) start: usize,
}

impl Part<'_> {
    /// The entries of this part in an output with one entry for `weights` weights.
    pub(crate) fn of<'a, T>(&self, output: &'a mut [T], weights: usize) -> &'a mut [T] {
        &mut output[self.start / weights..(self.start + self.values.len()).div_ceil(weights)]
    }
}

/// Encodes in parts of `size` weights; the last one may be shorter. `encode` returns the largest
/// error of a part and the largest magnitude, infinite if a value is not finite. The result is the
/// largest error of all.
pub(crate) fn by_parts(
    values: &[f32],
    size: usize,
    cx: &EncodeCx<'_>,
    mut encode: impl FnMut(Part<'_>) -> (f32, f32),
) -> Result<f32> {
    let mut largest = 0.0f32;
    for (i, part) in values.chunks(size).enumerate() {
        cx.cancel.check()?;
        let (start, next) = (i * size, values.get((i + 1) * size..).unwrap_or_default());
        let (error, magnitude) = encode(Part { values: part, next, start });
        check_finite(magnitude, part, start)?;
        largest = largest.max(error);
        cx.progress.tick(part.len() as u64);
    }
    Ok(largest)
}

/// Refuses values whose largest magnitude is infinite; `start` is the index of the first one.
pub(crate) fn check_finite(magnitude: f32, values: &[f32], start: usize) -> Result<()> {
    if magnitude.is_finite() {
        return Ok(());
    }
    Err(CodecError::NonFinite { index: start + first_non_finite(values).unwrap_or(0) })
}
