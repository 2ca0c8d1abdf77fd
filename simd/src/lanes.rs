//! Blocks of sixteen values; the last block of a slice is padded.

/// Number of values that a kernel handles in one step, at every level. Reductions keep this many
/// partial results.
pub const LANES: usize = 16;

/// Loads the first [`LANES`] values. A shorter slice is padded with the default (zero).
#[inline(always)]
pub fn load<T: Copy + Default>(values: &[T]) -> [T; LANES] {
    if let Some(block) = values.first_chunk() {
        return *block;
    }
    let mut block = [T::default(); LANES];
    block[..values.len()].copy_from_slice(values);
    block
}

/// Writes the first `out.len()` lanes, at most [`LANES`].
#[inline(always)]
pub fn store<T: Copy>(lanes: [T; LANES], out: &mut [T]) {
    if let Some(block) = out.first_chunk_mut() {
        *block = lanes;
    } else {
        out.copy_from_slice(&lanes[..out.len()]);
    }
}

/// An array of [`LANES`] values, each computed from its index: `lanes!(i => a[i] + b[i])`.
///
/// Kernels use it instead of `array::map`: the compiler may not inline the closure of `map`, and
/// would then compile it without the instructions of the kernel's level.
#[macro_export]
macro_rules! lanes {
    ($i:ident => $value:expr) => {{
        let mut lanes = [Default::default(); $crate::LANES];
        #[allow(clippy::needless_range_loop)]
        for $i in 0..$crate::LANES {
            lanes[$i] = $value;
        }
        lanes
    }};
}
