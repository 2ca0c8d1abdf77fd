//! Blocks of sixteen values, the last one of a slice filled up.

/// Values that a kernel handles in one step at every level; reductions keep this many partial results.
pub const LANES: usize = 16;

/// The first [`LANES`] values; what is missing is the default (zero).
#[inline(always)]
pub fn load<T: Copy + Default>(values: &[T]) -> [T; LANES] {
    if let Some(block) = values.first_chunk() {
        return *block;
    }
    let mut block = [T::default(); LANES];
    block[..values.len()].copy_from_slice(values);
    block
}

/// Writes as many lanes as `out` has places, [`LANES`] at most.
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
/// Kernels use it instead of `array::map`, whose closure the compiler may leave out of line, and so without the
/// instructions of the kernel's level.
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
