//! Tensors that break careless codecs.

use codec_api::Dtype;

use super::sample::bell;
use super::{Sample, everything};

/// The dtypes that every codec decodes to f32.
pub const FLOAT_DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

/// Every dtype of the safetensors format.
pub const ALL_DTYPES: [Dtype; 22] = [
    Dtype::BOOL,
    Dtype::F4,
    Dtype::F6_E2M3,
    Dtype::F6_E3M2,
    Dtype::U8,
    Dtype::I8,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::I16,
    Dtype::U16,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I32,
    Dtype::U32,
    Dtype::F32,
    Dtype::C64,
    Dtype::F64,
    Dtype::I64,
    Dtype::U64,
];

/// Shapes with one element, no element, less and more than a block, and ranks up to 4.
const SHAPES: [&[usize]; 11] =
    [&[2, 3, 64], &[1], &[0], &[0, 5], &[5, 0], &[1, 257], &[4, 64], &[33, 1], &[3, 5, 7], &[2, 3, 4, 17], &[2, 300]];

/// Ways to fill a tensor: a name and the value at a flat index.
pub(super) type Fill = (&'static str, fn(usize) -> f32);

static FILLS: [Fill; 14] = [
    ("bell-shaped", |i| bell(i as u64)),
    ("all zeros", |_| 0.0),
    ("one outlier among zeros", |i| if i == 3 { 1e4 } else { 0.0 }),
    ("bell-shaped, as small as weights", |i| 0.02 * bell(i as u64)),
    ("all negative zeros", |_| -0.0),
    ("constant", |_| 0.3),
    ("negative constant", |_| -7.0),
    ("one outlier among weights", |i| if i == 5 { -1e4 } else { bell(i as u64) }),
    ("about 1e30", |i| 1e30 * bell(i as u64)),
    ("the largest number, both signs", |i| if i % 2 == 0 { 3.4e38 } else { -3.4e38 }),
    ("about 1e-40", |i| 1e-40 * bell(i as u64)),
    ("the smallest subnormal", |i| if i % 3 == 0 { f32::from_bits(1) } else { 0.0 }),
    ("fifty orders of magnitude", |i| bell(i as u64) * 10f32.powi(i as i32 % 50 - 25)),
    ("rising, all positive", |i| 10.0 + i as f32),
];

/// The finite float tensors that a codec must either encode or refuse with a reason: all fills in
/// three shapes, and the first three fills in all shapes.
pub fn nasty() -> impl Iterator<Item = Sample> {
    samples(&FILLS, &[&[7, 33], &[131], &[]]).chain(samples(&FILLS[..3], &SHAPES))
}

/// All fills in shapes whose rows and element counts are not multiples of any SIMD vector. The
/// float dtypes alternate; if `NETWEIGHT_LAWS` is `full`, every shape has every dtype.
pub(super) fn with_tails() -> impl Iterator<Item = Sample> {
    let every = if everything() { 1 } else { 2 };
    // Each fill has two shapes of three dtypes, so every second sample gives each dtype once.
    samples(&FILLS, &[&[3, 77], &[5, 33]]).step_by(every)
}

fn samples(fills: &'static [Fill], shapes: &'static [&[usize]]) -> impl Iterator<Item = Sample> {
    let filled = fills.iter().flat_map(|fill| shapes.iter().map(move |shape| (fill, *shape)));
    filled.flat_map(|((name, value), shape)| {
        FLOAT_DTYPES.into_iter().filter_map(move |dtype| Sample::from_fn(*name, dtype, shape, value).ok())
    })
}
