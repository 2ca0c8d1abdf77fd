//! Any setting of a codec on tensors at the ends of the float formats.

use std::sync::Arc;

use codec_api::{Dtype, Registry};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;

use super::encodes::Encode;
use super::nasty::Fill;
use super::sample::bell;
use super::trial::{Trial, each_offer};
use super::{Law, Sample, Subject, Violation, certificate, refusals, strategies};

/// The largest F32 with a sign that alternates in no period of a block.
fn largest(i: usize) -> f32 {
    f32::MAX.copysign(bell(i as u64))
}

const FILLS: [Fill; 18] = [
    ("zeros", |_| 0.0),
    ("negative zeros", |_| -0.0),
    ("constant", |_| 0.3),
    ("negative constant", |_| -7.0),
    ("the largest F32", |_| f32::MAX),
    ("the smallest F32", |_| f32::MIN),
    ("the largest F32, both signs", largest),
    ("half the largest F32, both signs", |i| 1.7e38f32.copysign(bell(i as u64))),
    ("up to the largest F32", |i| f32::MAX * (0.3 * bell(i as u64)).clamp(-1.0, 1.0)),
    ("the largest F32 among weights", |i| if i == 0 { f32::MAX } else { bell(i as u64) }),
    ("the smallest F32 among zeros", |i| if i == 0 { f32::MIN } else { 0.0 }),
    ("an outlier among weights", |i| if i == 0 { -1e4 } else { 0.02 * bell(i as u64) }),
    ("the largest F16, both signs", |i| 65504f32.copysign(bell(i as u64))),
    ("around the smallest F16", |i| 1e-7 * bell(i as u64)),
    ("subnormal", |i| 1e-39 * bell(i as u64)),
    ("the smallest subnormal, both signs", |i| f32::from_bits(1).copysign(bell(i as u64))),
    ("one subnormal among zeros", |i| if i == 0 { f32::from_bits(1) } else { 0.0 }),
    ("all magnitudes", |i| bell(i as u64) * 10f32.powi((i * 7) as i32 % 80 - 42)),
];

/// A tensor filled in one of the ways: a few rows, or so many that codecs have contexts for them.
fn extreme_tensor() -> impl Strategy<Value = Sample> {
    let columns = select(&[1usize, 31, 33, 255, 257][..]);
    (strategies::float_dtype(), select(&[1usize, 2, 3, 17][..]), columns, select(&FILLS[..]))
        .prop_filter_map("every shape has a tensor", |(dtype, rows, columns, (name, value))| {
            sample(name, dtype, [rows, columns], value)
        })
}

fn sample(name: &str, dtype: Dtype, shape: [usize; 2], value: fn(usize) -> f32) -> Option<Sample> {
    Sample::from_fn(name, dtype, &shape, value).ok()
}

/// Checks laws 1 and 6 on specs drawn from `specs` and tensors at the ends of F32, F16 and BF16: an
/// encode gives a payload that decodes to finite weights, with their certificate, or it refuses the
/// tensor with a reason.
///
/// # Panics
/// If a law is broken, or if a spec is not valid: this function is the body of a test.
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub fn check_extremes(specs: impl Strategy<Value = String>) {
    let registry = Registry::linked().unwrap_or_else(|e| panic!("{e}"));
    let outcome = strategies::runner().run(&(specs, extreme_tensor()), |(spec, sample)| {
        let subject = subject(&registry, &spec).map_err(TestCaseError::fail)?;
        each_offer(&subject, Law::Refusals, &sample, judge).map_err(|e| TestCaseError::fail(e.to_string()))
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}

fn subject(registry: &Registry, spec: &str) -> Result<Subject, String> {
    let codec = registry.parse_spec(spec).map_err(|e| format!("`{spec}`: {e}"))?;
    let id = codec.typetag_name();
    let entry = *registry.get(id).ok_or_else(|| format!("no codec `{id}`"))?;
    Ok(Subject {
        entry,
        preset: "(drawn)",
        codec: Arc::clone(&codec),
        registry: registry.clone(),
        manifest_dir: "".into(),
    })
}

fn judge(trial: &Trial<'_>) -> Result<(), Violation> {
    let encode = Encode::new(trial)?;
    refusals::judge(trial, &encode)?;
    certificate::judge(&Trial { law: Law::Certificate, ..*trial }, &encode)
}
