//! Property-test strategies for tensors. The tensors are small, so that many can be tried. They
//! cover typical causes of faults in codecs: every rank up to 4, empty axes, odd lengths, extreme
//! and equal values, every bit pattern.

use std::env;

use codec_api::{Dtype, TensorSpec};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::{ALL_DTYPES, FLOAT_DTYPES, Sample};

/// Number of cases per property unless `PROPTEST_CASES` sets it.
const CASES: u32 = 48;

/// A runner with a fixed seed: every run tries the same cases.
pub fn runner() -> TestRunner {
    let mut config = Config { failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Shapes of rank 0 to 4 with at most about a thousand elements; some have an empty axis.
pub fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![]),
        3 => vec(0usize..400, 1),
        6 => (0usize..6, 0usize..200).prop_map(|(rows, columns)| vec![rows, columns]),
        2 => vec(0usize..10, 3),
        2 => vec(0usize..6, 4),
    ]
}

/// F32, F16 or BF16.
pub fn float_dtype() -> impl Strategy<Value = Dtype> {
    select(&FLOAT_DTYPES[..])
}

/// Any dtype of the safetensors format.
pub fn dtype() -> impl Strategy<Value = Dtype> {
    select(&ALL_DTYPES[..])
}

/// `n` finite values. One of several distributions applies to the whole tensor.
pub fn finite_values(n: usize) -> impl Strategy<Value = Vec<f32>> {
    let centred = || (-1.0f32..1.0, -1.0f32..1.0).prop_map(|(a, b)| a + b);
    let scale = select(vec![1.0, 0.02, 1e-6, 1e-38, 1e-43, 1e6, 1e30]);
    let special = select(vec![0.0, -0.0, 1.0, -1.0, 1e-40, f32::MIN_POSITIVE, f32::MAX, f32::MIN, 65504.0, 0.1]);
    prop_oneof![
        4 => (scale, vec(centred(), n)).prop_map(|(scale, values)| values.iter().map(|v| scale * v).collect::<Vec<f32>>()),
        1 => vec(any_finite(), n),
        1 => vec(special.clone(), n),
        1 => special.prop_map(move |v| vec![v; n]),
        1 => (vec(centred(), n), any::<prop::sample::Index>(), any_finite()).prop_map(|(mut values, at, outlier)| {
            if !values.is_empty() {
                let at = at.index(values.len());
                values[at] = outlier;
            }
            values
        }),
    ]
}

/// A finite f32, uniform over bit patterns.
fn any_finite() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(|bits| {
        let value = f32::from_bits(bits);
        // For NaN and infinities, clear the top bit of the exponent, which makes the value finite.
        if value.is_finite() { value } else { f32::from_bits(bits & !0x4000_0000) }
    })
}

/// A float tensor without NaN or infinity.
pub fn finite_tensor() -> impl Strategy<Value = Sample> {
    (float_dtype(), shape())
        .prop_flat_map(|(dtype, shape)| {
            let n = shape.iter().product();
            (Just(dtype), Just(shape), finite_values(n))
        })
        .prop_filter_map("every shape has a tensor", |(dtype, shape, values)| {
            Sample::from_fn("generated", dtype, &shape, |i| values[i]).ok()
        })
}

/// A tensor of any dtype with any bits: NaN payloads, negative zeros, infinities, subnormals.
pub fn bit_tensor() -> impl Strategy<Value = Sample> {
    let byte = prop_oneof![3 => any::<u8>(), 1 => select(vec![0, 0x7f, 0x80, 0xff])];
    // Four elements of a 4- or 6-bit dtype fill whole bytes.
    (dtype(), shape())
        .prop_map(|(dtype, mut shape)| {
            if dtype.bitsize() % 8 != 0 {
                shape.push(4);
            }
            (dtype, shape)
        })
        .prop_flat_map(move |(dtype, shape)| {
            let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (Just(dtype), Just(shape), vec(byte.clone(), bytes))
        })
        .prop_filter_map("every shape has a tensor", |(dtype, shape, bytes)| {
            Sample::new("generated bits", TensorSpec::new(dtype, shape).ok()?, bytes).ok()
        })
}
