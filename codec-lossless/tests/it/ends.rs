//! Tensors at the ends of the number formats, for any dtype.

use codec_api::{Dtype, TensorSpec};
use proptest::prelude::*;
use proptest::sample::select;

/// A tensor of any dtype: rows of lengths around those of vectors and blocks.
pub fn tensors() -> impl Strategy<Value = (TensorSpec, Vec<u8>)> {
    let shape = (1usize..=9, select(vec![1usize, 31, 33, 255, 257]));
    (select(laws::ALL_DTYPES.to_vec()), shape, 0u8..5, any::<u64>()).prop_filter_map(
        "elements of less than a byte fill whole bytes",
        |(dtype, (rows, columns), kind, seed)| {
            let spec = TensorSpec::new(dtype, [rows, columns]).ok()?;
            let bytes = bytes(&spec, kind, seed);
            Some((spec, bytes))
        },
    )
}

/// Bytes of one kind: 0 a constant, 1 a constant with one outlier, 2 only ends of the format, 3
/// small numbers with some ends, 4 random bits.
pub fn bytes(spec: &TensorSpec, kind: u8, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 31
    };
    let width = spec.dtype().bitsize().div_ceil(8).max(1);
    let elements = spec.byte_len() / width;
    let outlier = random() as usize % elements.max(1);
    let constant = end(spec.dtype(), width, random());
    let element = |i: usize| match kind {
        1 if i == outlier => !constant,
        0 | 1 => constant,
        3 if random() % 16 > 0 => (random() % 1024) | (0x3c << (8 * width - 8)),
        2 | 3 => end(spec.dtype(), width, random()),
        _ => random(),
    };
    let elements: Vec<u64> = (0..elements).map(element).collect();
    elements.iter().flat_map(|element| element.to_le_bytes()[..width].to_vec()).collect()
}

/// The bits of ±max, a subnormal, ±0, infinity or a NaN with a payload, chosen by `random`.
fn end(dtype: Dtype, width: usize, random: u64) -> u64 {
    let mantissa = match (dtype, width) {
        (_, 8) => 52,
        (_, 4) => 23,
        (Dtype::BF16, _) => 7,
        (_, 2) => 10,
        _ => 3,
    };
    let (sign, ones, fraction) = (1u64 << (8 * width - 1), (1u64 << mantissa) - 1, random >> 8);
    let infinity = (sign - 1) & !ones;
    let magnitude = match random % 6 {
        0 => infinity - 1,
        1 => 1,
        2 => fraction & ones,
        3 => 0,
        4 => infinity,
        _ => infinity | fraction & ones | 1,
    };
    magnitude | if random & 0x80 == 0 { 0 } else { sign }
}
