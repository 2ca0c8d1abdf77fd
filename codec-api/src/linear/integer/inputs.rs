//! Inputs as integers of 16 bits.

use std::ops::Range;

use bytemuck::cast_slice_mut;
use simd::{LANES, Lanes, Simd, kernel, lanes, magnitudes, sum};

/// Inputs that share a scale.
pub(in crate::linear) const BLOCK: usize = 64;
/// Inputs of which a sum is kept.
const SUMMED: usize = LANES;
/// Vectors of a batch whose integers lie together.
pub(super) const TOGETHER: usize = 8;
/// The largest integer.
const MOST: f32 = 32767.0;
/// The largest error of an input, relative to the largest magnitude in its block: half a step, and
/// the roundings of the division by the step.
pub(super) const STEP_ERROR: f64 = 0.504 / 32767.0;
/// Magnitudes below it are multiplied by [`LARGE`].
const SMALL: f32 = f32::from_bits((127 - 64) << 23);
const LARGE: f32 = f32::from_bits((127 + 64) << 23);

/// A batch of vectors `x = q·s`, with 16-bit integers `q` and a scale `s` for every [`BLOCK`] of
/// them. Vectors are padded with zeros to whole blocks. Values that are not finite make the scale
/// of their block NaN. A block below 2⁻¹¹⁰ loses digits of its scale.
///
/// The vectors of a batch are in groups of [`TOGETHER`]: the first block of all of its vectors
/// comes first, then the second one. The last group may have unused places.
#[derive(Clone, Debug)]
pub(in crate::linear) struct IntegerInputs {
    batch: usize,
    /// Vectors of a group.
    together: usize,
    /// Integers of a vector; a multiple of [`BLOCK`].
    width: usize,
    /// Two integers each, the first one in the low half.
    pairs: Vec<u32>,
    /// Of each [`BLOCK`].
    scales: Vec<f32>,
    /// Sums of [`SUMMED`] integers.
    sums: Vec<i32>,
}

/// The numbers of a vector and of those after it in its group. A block of one vector is followed by
/// the same block of the next vector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    pub(super) pairs: &'a [u32],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [i32],
}

impl Group<'_> {
    /// The sum of `len` integers of a block, from number `within` on.
    #[inline(always)]
    pub(super) fn sum(&self, block: usize, within: usize, len: usize) -> i32 {
        let from = block * (BLOCK / SUMMED) + within / SUMMED;
        self.sums[from..][..len.div_ceil(SUMMED)].iter().sum()
    }
}

impl IntegerInputs {
    /// Converts a batch of vectors.
    pub(in crate::linear) fn new(values: &[f32], batch: usize) -> Self {
        let len = values.len().checked_div(batch).unwrap_or(0);
        let mut integers = Self::with_size(len, batch);
        for (i, values) in values.chunks(len.max(1)).enumerate() {
            integers.set(i, values);
        }
        integers
    }

    /// Zeros, for vectors of `len` values.
    pub(super) fn with_size(len: usize, batch: usize) -> Self {
        let (width, together) = (len.next_multiple_of(BLOCK), if batch == 1 { 1 } else { TOGETHER });
        let of = |part: usize| batch.next_multiple_of(together) * width / part;
        let (pairs, scales, sums) = (vec![0; of(2)], vec![0.0; of(BLOCK)], vec![0; of(SUMMED)]);
        Self { batch, together, width, pairs, scales, sums }
    }

    /// The group of vector `i`, without the vectors before this one.
    #[inline(always)]
    pub(super) fn group(&self, i: usize) -> Group<'_> {
        let from = self.span(i).start;
        Group {
            pairs: &self.pairs[from / 2..],
            scales: &self.scales[from / BLOCK..],
            sums: &self.sums[from / SUMMED..],
        }
    }

    /// The integers from those of vector `i` to the end of its group.
    #[inline(always)]
    fn span(&self, i: usize) -> Range<usize> {
        let (group, len) = (i / self.together, self.together * self.width);
        group * len + i % self.together * BLOCK..(group + 1) * len
    }

    /// Sets vector `i`.
    pub(super) fn set(&mut self, i: usize, values: &[f32]) {
        convert(values, self.place(i));
    }

    /// Sets vector `i` to the values times `scales`. The sums are those of the integers times
    /// `zeros`, if there are any; a batch has none, because its products do not use them.
    pub(super) fn set_scaled(&mut self, i: usize, values: &[f32], scales: &[f32], zeros: Option<&[u8]>) {
        convert_scaled(values, scales, zeros.unwrap_or_default(), self.place(i));
    }

    fn place(&mut self, i: usize) -> Place<'_> {
        let Range { start: from, end: to } = self.span(i);
        Place {
            together: self.together,
            pairs: &mut self.pairs[from / 2..to / 2],
            scales: &mut self.scales[from / BLOCK..to / BLOCK],
            sums: &mut self.sums[from / SUMMED..to / SUMMED],
        }
    }

    /// Number of vectors.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }
}

/// Where the numbers of a vector go: every `together` blocks.
struct Place<'a> {
    together: usize,
    pairs: &'a mut [u32],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

impl Place<'_> {
    /// Sets a block to these values, but for its sums; returns the integers.
    #[inline(always)]
    fn set<S: Simd>(&mut self, simd: S, block: usize, values: &[f32; BLOCK]) -> [Lanes<i16>; BLOCK / LANES] {
        let parts = values.as_chunks::<LANES>().0;
        let mut largest = [0; LANES];
        for part in parts {
            largest = simd.max_magnitude(&largest, part);
        }
        let largest = simd.reduce_max(&magnitudes(largest));
        let mut integers = [[0; LANES]; BLOCK / LANES];
        let scale = &mut self.scales[block * self.together];
        if (SMALL..=f32::MAX).contains(&largest) {
            *scale = largest / MOST;
            for (part, q) in parts.iter().zip(&mut integers) {
                *q = simd.round_products(part, MOST / largest);
            }
        } else if largest < SMALL {
            // Larger, so that the inverse of the largest magnitude is finite.
            *scale = largest * LARGE / MOST * SMALL;
            let inverse = if largest == 0.0 { 0.0 } else { MOST / (largest * LARGE) };
            for (part, q) in parts.iter().zip(&mut integers) {
                *q = simd.round_products(&lanes!(i => part[i] * LARGE), inverse);
            }
        } else {
            *scale = f32::NAN;
        }
        let pairs = &mut self.pairs[block * self.together * (BLOCK / 2)..][..BLOCK / 2];
        for (q, halves) in integers.iter().zip(cast_slice_mut::<u32, i16>(pairs).as_chunks_mut().0) {
            *halves = if cfg!(target_endian = "big") { lanes!(i => q[i ^ 1]) } else { *q };
        }
        integers
    }

    /// The sums of a block.
    #[inline(always)]
    fn sums(&mut self, block: usize) -> &mut [i32] {
        &mut self.sums[block * self.together * (BLOCK / SUMMED)..][..BLOCK / SUMMED]
    }
}

/// A block of values; zeros beyond their end.
#[inline(always)]
fn block_of<'a>(values: &'a [f32], buffer: &'a mut [f32; BLOCK]) -> &'a [f32; BLOCK] {
    if let Some(block) = values.first_chunk() {
        return block;
    }
    *buffer = [0.0; BLOCK];
    buffer[..values.len()].copy_from_slice(values);
    buffer
}

/// Fewer zero points than there is space for, and zeros behind them.
#[cold]
fn padded(zeros: &[u8]) -> [u8; 2 * LANES] {
    let mut all = [0; 2 * LANES];
    all[..zeros.len()].copy_from_slice(zeros);
    all
}

#[inline(always)]
fn widened(q: &Lanes<i16>) -> Lanes<i32> {
    lanes!(i => i32::from(q[i]))
}

kernel! {
    fn convert<'a>(simd, values: &'a [f32], place: Place<'a>) {
        let (mut place, mut buffer) = (place, [0.0; BLOCK]);
        for (b, values) in values.chunks(BLOCK).enumerate() {
            let integers = place.set(simd, b, block_of(values, &mut buffer));
            for (out, q) in place.sums(b).iter_mut().zip(&integers) {
                *out = sum(widened(q));
            }
        }
    }
}

kernel! {
    fn convert_scaled<'a>(simd, values: &'a [f32], scales: &'a [f32], zeros: &'a [u8], place: Place<'a>) {
        let (mut place, mut buffers) = (place, [[0.0; BLOCK]; 2]);
        for (b, (values, scales)) in values.chunks(BLOCK).zip(scales.chunks(BLOCK)).enumerate() {
            let [x, s] = &mut buffers;
            let (x, s) = (block_of(values, x), block_of(scales, s));
            let mut scaled = [0.0; BLOCK];
            for i in 0..BLOCK {
                scaled[i] = x[i] * s[i];
            }
            let integers = place.set(simd, b, &scaled);
            if place.together > 1 {
                continue;
            }
            let mut sums = [0; LANES];
            for (p, q) in integers.as_flattened().as_chunks().0.iter().enumerate() {
                let mut factors = [1; 2 * LANES];
                if !zeros.is_empty() {
                    let zeros = zeros.get(b * BLOCK + p * 2 * LANES..).unwrap_or_default();
                    factors = zeros.first_chunk().copied().unwrap_or_else(|| padded(zeros));
                }
                sums = simd.add_lane_pairs(&sums, &simd.widen_pairs(&factors), q);
            }
            // The kernels add up the sums of a block.
            place.sums(b)[0] = sum(sums);
        }
    }
}
