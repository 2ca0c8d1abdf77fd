//! The generated tensors cover the intended cases, and are the same on every run.

use std::collections::BTreeSet;

use codec_api::Dtype;
use laws::strategies::{bit_tensor, finite_tensor, runner};
use laws::{ALL_DTYPES, Sample, nasty};
use proptest::strategy::{Strategy, ValueTree};

fn generate(strategy: &impl Strategy<Value = Sample>) -> Vec<Sample> {
    let mut runner = runner();
    (0..400).map(|_| strategy.new_tree(&mut runner).expect("a sample").current()).collect()
}

fn values(sample: &Sample) -> Vec<f32> {
    sample.view().and_then(|view| Ok(view.to_f32()?.into_owned())).expect("a float tensor")
}

fn ranks(samples: &[Sample]) -> BTreeSet<usize> {
    samples.iter().map(|sample| sample.spec().shape().len()).collect()
}

#[test]
fn finite_tensors_are_finite_and_of_all_kinds() {
    let samples = generate(&finite_tensor());
    let all: Vec<f32> = samples.iter().flat_map(values).collect();
    assert!(all.iter().all(|v| v.is_finite()));
    assert!(all.iter().any(|v| v.is_subnormal()) && all.contains(&f32::MAX) && all.contains(&f32::MIN));
    assert!(all.iter().any(|v| v.to_bits() == (-0.0f32).to_bits()));
    assert_eq!(ranks(&samples), BTreeSet::from([0, 1, 2, 3, 4]));
    let dtypes: BTreeSet<Dtype> = samples.iter().map(|sample| sample.spec().dtype()).collect();
    assert_eq!(dtypes, BTreeSet::from([Dtype::F32, Dtype::F16, Dtype::BF16]));
    assert!(samples.iter().any(|sample| sample.spec().elements() == 0));
    assert!(samples.iter().any(|sample| sample.spec().elements() > 500));
    assert!(samples.iter().all(|sample| sample.spec().elements() < 1200), "they are small");
}

#[test]
fn bit_tensors_have_every_dtype_and_nan_payloads() {
    let samples = generate(&bit_tensor());
    let dtypes: BTreeSet<Dtype> = samples.iter().map(|sample| sample.spec().dtype()).collect();
    assert_eq!(dtypes, BTreeSet::from(ALL_DTYPES));
    let floats = samples.iter().filter(|sample| sample.spec().is_float());
    let nans: BTreeSet<u32> = floats.flat_map(values).filter(|v| v.is_nan()).map(f32::to_bits).collect();
    assert!(nans.len() > 100, "{} different NaNs", nans.len());
}

#[test]
fn nasty_tensors_are_finite_and_of_every_rank() {
    let samples: Vec<Sample> = nasty().collect();
    assert!(samples.iter().flat_map(values).all(f32::is_finite));
    assert_eq!(ranks(&samples), BTreeSet::from([0, 1, 2, 3, 4]));
    assert!(samples.iter().any(|sample| sample.spec().shape() == [0, 5]));
    assert!(samples.iter().any(|sample| sample.spec().shape() == [5, 0]));
}

#[test]
fn every_run_generates_the_same() {
    let bytes = || generate(&finite_tensor()).iter().map(|sample| sample.bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(bytes(), bytes());
}
