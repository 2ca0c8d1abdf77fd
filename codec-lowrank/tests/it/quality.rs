//! Ranks, sizes and errors on matrices with a known best approximation.

use crate::common::{encode, low_rank};
use crate::harmonic::{best_of_harmonic, harmonic};

const SQUARE: [usize; 2] = [1000, 1000];

#[test]
fn the_default_finds_the_rank_below_the_noise() {
    let values = low_rank(SQUARE, 50, 0.01);
    let dense = 4.0 * values.len() as f64;
    for (spec, ratio, error) in [
        ("lowrank.svd(lossless.raw)", 9.9, 0.0014),
        ("lowrank.svd", 19.8, 0.0014),
        ("lowrank.svd(quant.int:bits=8)", 35.0, 0.0115),
    ] {
        let coded = encode(spec, &SQUARE, &values).unwrap();
        assert_eq!(coded.rank(), 50, "{spec}");
        let found = dense / coded.bytes() as f64;
        println!("{spec}: ratio {found:.2}, relative error {:.6}", coded.error);
        assert!(found >= ratio && coded.error <= error, "{spec}: ratio {found}, relative error {}", coded.error);
    }
}

#[test]
fn a_matrix_of_exact_low_rank_comes_back() {
    let values = low_rank([120, 80], 7, 0.0);
    for keep in ["", ":energy=1", ":error=0.0001", ":bytes=1000000"] {
        let coded = encode(&format!("lowrank.svd(lossless.raw){keep}"), &[120, 80], &values).unwrap();
        assert_eq!(coded.rank(), 7, "{keep}");
        assert!(coded.error < 1e-6, "{keep}: relative error {}", coded.error);
    }
    // The rank is given: components beyond the matrix's own rank are nearly zero, and harmless.
    let coded = encode("lowrank.svd(lossless.raw):rank=20", &[120, 80], &values).unwrap();
    assert!(coded.rank() == 20 && coded.error < 1e-6 && coded.s()[7] < 1e-5 * coded.s()[0]);
}

#[test]
fn truncation_is_the_best_of_its_rank_and_a_random_block_nearly_is() {
    let shape = [768, 384];
    let values = harmonic(shape);
    let best = best_of_harmonic(shape[1], 64);
    for (method, worst) in [("exact", 1.0001), ("randomised", 1.02)] {
        let spec = format!("lowrank.svd(lossless.raw):rank=64:method={method}");
        let error = encode(&spec, &shape, &values).unwrap().error / best;
        println!("{method}: {error:.5} of the least error");
        assert!((0.9999..=worst).contains(&error), "{method}: {error} of the least error");
    }
}

#[test]
fn a_random_block_grows_until_it_holds_enough() {
    let shape = [768, 384];
    let values = harmonic(shape);
    for keep in ["energy=0.98", "energy=0.995", "error=0.1", "energy=0.998"] {
        let spec = |method| format!("lowrank.svd:{keep}:method={method}");
        let exact = encode(&spec("exact"), &shape, &values).unwrap();
        let random = encode(&spec("randomised"), &shape, &values).unwrap();
        assert!(
            (exact.rank()..=exact.rank() + 2).contains(&random.rank()),
            "{keep}: rank {} and {}",
            exact.rank(),
            random.rank()
        );
    }
}

/// These errors are 2 % and 10 % below those with the singular values of the decomposition.
#[test]
fn singular_values_suit_coarse_vectors() {
    let values = low_rank(SQUARE, 50, 0.01);
    for (bits, error) in [(4, 0.199), (3, 0.445)] {
        let coded = encode(&format!("lowrank.svd(quant.int:bits={bits}):rank=50"), &SQUARE, &values).unwrap();
        println!("{bits} bits: relative error {:.5}", coded.error);
        assert!(coded.error <= error, "{bits} bits: relative error {}", coded.error);
    }
}

#[test]
fn magnitude_costs_no_accuracy() {
    let values = low_rank([96, 64], 5, 0.001);
    let least = |values: &[f32]| encode("lowrank.svd:rank=5", &[96, 64], values).unwrap();
    let normal = least(&values);
    for factor in [2.0f32.powi(-100), 2.0f32.powi(121)] {
        let scaled: Vec<f32> = values.iter().map(|v| v * factor).collect();
        let coded = least(&scaled);
        let close = (coded.error / normal.error - 1.0).abs() < codec_api::Certificate::TOLERANCE;
        assert!(coded.s() == normal.s() && close, "times {factor:e}: {}", coded.error);
    }
    for value in [f32::MAX, f32::MIN, f32::from_bits(1), 1e-40] {
        let coded = encode("lowrank.svd(lossless.raw)", &[96, 64], &vec![value; 96 * 64]).unwrap();
        let off = coded.decoded.iter().map(|w| (f64::from(*w) - f64::from(value)).abs()).fold(0.0, f64::max);
        let unit = f64::from(f32::from_bits(1));
        assert!(off <= unit.max(2e-6 * f64::from(value.abs())), "{value:e} is off by {off:e}");
    }
}
