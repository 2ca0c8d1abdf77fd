//! The loop of block encoders: part by part, with checks for cancellation and progress.

use codec_api::{CodecError, EncodeCx, Result, util::first_non_finite};

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
/// magnitude of its part, infinite if a value is not finite.
pub(crate) fn by_parts(
    values: &[f32],
    size: usize,
    cx: &EncodeCx<'_>,
    mut encode: impl FnMut(Part<'_>) -> f32,
) -> Result<()> {
    for (i, part) in values.chunks(size).enumerate() {
        cx.cancel.check()?;
        let (start, next) = (i * size, values.get((i + 1) * size..).unwrap_or_default());
        check_finite(encode(Part { values: part, next, start }), part, start)?;
        cx.progress.tick(part.len() as u64);
    }
    Ok(())
}

/// Refuses values whose largest magnitude is infinite; `start` is the index of the first one.
pub(crate) fn check_finite(magnitude: f32, values: &[f32], start: usize) -> Result<()> {
    if magnitude.is_finite() {
        return Ok(());
    }
    Err(CodecError::NonFinite { index: start + first_non_finite(values).unwrap_or(0) })
}
