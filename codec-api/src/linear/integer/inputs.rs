//! Inputs as integers of 16 bits.

use simd::{LANES, Lanes, Simd, kernel, lanes, load, magnitudes, sum};

/// Inputs that share a scale.
pub(in crate::linear) const BLOCK: usize = 64;
/// Inputs of which a sum is kept.
pub(super) const SUMMED: usize = LANES;
/// Vectors of a batch whose integers lie together.
pub(super) const TOGETHER: usize = 8;
/// The largest integer.
const MOST: f32 = 32767.0;
/// The largest error of an input, relative to the largest magnitude in its block: half a step, and
/// the roundings of the division by the step.
pub(super) const STEP_ERROR: f64 = 0.504 / 32767.0;
/// Adding it rounds a number below 2²² to the nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// A batch of vectors `x = q·s`, with 16-bit integers `q` and a scale `s` for every [`BLOCK`] of
/// them. Vectors are padded with zeros to whole blocks. Values that are not finite make the scale
/// of their block NaN. A block below 2⁻¹¹⁰ loses digits of its scale.
///
/// The vectors of a batch are in groups of [`TOGETHER`]: the first numbers of all of its vectors
/// come first, then the second ones. The last group may have unused places.
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

/// Some vectors of a group: number `i` of vector `v` is at `i·stride + v`, with [`TOGETHER`] for the
/// stride, or 1 for a single vector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    pub(super) pairs: &'a [u32],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [i32],
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
        let (group, first) = (i / self.together, i % self.together);
        let from = |part: usize| group * self.together * self.width / part + first;
        Group { pairs: &self.pairs[from(2)..], scales: &self.scales[from(BLOCK)..], sums: &self.sums[from(SUMMED)..] }
    }

    /// Sets vector `i`.
    pub(super) fn set(&mut self, i: usize, values: &[f32]) {
        convert(values, self.place(i));
    }

    /// Sets vector `i` to the values times `scales`. The sums are those of the integers
    /// times `zeros`, if there are any.
    pub(super) fn set_scaled(&mut self, i: usize, values: &[f32], scales: &[f32], zeros: Option<&[u8]>) {
        convert_scaled(values, scales, zeros.unwrap_or_default(), self.place(i));
    }

    fn place(&mut self, i: usize) -> Place<'_> {
        let (group, first) = (i / self.together, i % self.together);
        let len = self.together * self.width;
        Place {
            step: self.together,
            pairs: &mut self.pairs[group * len / 2..][..len / 2][first..],
            scales: &mut self.scales[group * len / BLOCK..][..len / BLOCK][first..],
            sums: &mut self.sums[group * len / SUMMED..][..len / SUMMED][first..],
        }
    }

    /// Number of vectors.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }
}

/// Where the numbers of a vector go: every `step` places.
struct Place<'a> {
    step: usize,
    pairs: &'a mut [u32],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

impl Place<'_> {
    /// Sets a block to these values; its sums to those of the integers, of [`SUMMED`] each.
    #[inline(always)]
    fn set<S: Simd>(&mut self, simd: S, block: usize, values: &[f32; BLOCK]) -> [Lanes<i32>; BLOCK / LANES] {
        let parts = values.as_chunks::<LANES>().0;
        let mut largest = [0; LANES];
        for part in parts {
            largest = simd.max_magnitude(&largest, part);
        }
        let steps = Steps::new(simd.reduce_max(&magnitudes(largest)));
        self.scales[block * self.step] = steps.step;
        let mut integers = [[0; LANES]; BLOCK / LANES];
        for (p, (part, q)) in parts.iter().zip(&mut integers).enumerate() {
            *q = lanes!(i => steps.integer(part[i]));
            let halves: Lanes<u16> = lanes!(i => q[i] as u16);
            let pairs = halves.as_chunks::<2>().0;
            let at = (block * (BLOCK / 2) + p * (LANES / 2)) * self.step;
            if self.step == 1 {
                for (out, [low, high]) in self.pairs[at..][..LANES / 2].iter_mut().zip(pairs) {
                    *out = u32::from(*low) | u32::from(*high) << 16;
                }
            } else {
                for (out, [low, high]) in self.pairs[at..].iter_mut().step_by(TOGETHER).zip(pairs) {
                    *out = u32::from(*low) | u32::from(*high) << 16;
                }
            }
        }
        integers
    }
}

kernel! {
    fn convert<'a>(simd, values: &'a [f32], place: Place<'a>) {
        let mut place = place;
        for (b, values) in values.chunks(BLOCK).enumerate() {
            let mut x = [0.0; BLOCK];
            x[..values.len()].copy_from_slice(values);
            let integers = place.set(simd, b, &x);
            for (p, integers) in integers.into_iter().enumerate() {
                place.sums[(b * BLOCK / SUMMED + p) * place.step] = sum(integers);
            }
        }
    }
}

kernel! {
    fn convert_scaled<'a>(simd, values: &'a [f32], scales: &'a [f32], zeros: &'a [u8], place: Place<'a>) {
        let mut place = place;
        for (b, (values, scales)) in values.chunks(BLOCK).zip(scales.chunks(BLOCK)).enumerate() {
            let mut x = [0.0; BLOCK];
            for ((out, x), scales) in x.as_chunks_mut().0.iter_mut().zip(values.chunks(LANES)).zip(scales.chunks(LANES)) {
                let (x, scales): (Lanes<f32>, Lanes<f32>) = (load(x), load(scales));
                *out = lanes!(i => x[i] * scales[i]);
            }
            let integers = place.set(simd, b, &x);
            let mut sums = [0; LANES];
            for (p, q) in integers.iter().enumerate() {
                if zeros.is_empty() {
                    sums = lanes!(i => sums[i] + q[i]);
                } else {
                    let zeros: Lanes<u8> = load(zeros.get(b * BLOCK + p * LANES..).unwrap_or_default());
                    sums = lanes!(i => sums[i] + q[i] * i32::from(zeros[i]));
                }
            }
            // The kernels add up the sums of a block.
            place.sums[b * BLOCK / SUMMED * place.step] = sum(sums);
        }
    }
}

/// How the values of a block become integers.
struct Steps {
    step: f32,
    /// A factor for magnitudes whose inverse would overflow.
    up: f32,
    inverse: f32,
}

impl Steps {
    /// For this largest magnitude.
    #[inline(always)]
    fn new(largest: f32) -> Self {
        const SMALL: f32 = f32::from_bits((127 - 64) << 23);
        const LARGE: f32 = f32::from_bits((127 + 64) << 23);
        if largest == 0.0 {
            return Self { step: 0.0, up: 0.0, inverse: 0.0 };
        }
        if !largest.is_finite() {
            return Self { step: f32::NAN, up: 0.0, inverse: 0.0 };
        }
        let (up, down) = if largest < SMALL { (LARGE, SMALL) } else { (1.0, 1.0) };
        let largest = largest * up;
        Self { step: largest / MOST * down, up, inverse: MOST / largest }
    }

    #[inline(always)]
    fn integer(&self, x: f32) -> i32 {
        let rounded = x * self.up * self.inverse + ROUND;
        // Sixteen bits, also of what is no number.
        i32::from(rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i16)
    }
}
