//! Payload sizes of sparse tensors.

use crate::support::{FORMS, bytes, encoded_f32, is_sparse, restored, section, with_exactly};
use codec_api::{Certificate, DecodeCx, Dtype};

const SHAPE: [usize; 2] = [2000, 2000];
const VALUES: usize = 200_000;

/// Weights N(0,1), 5 % of them non-zero.
fn weights() -> Vec<f32> {
    with_exactly(&harness::testing::weights("gaussian:2000x2000", SHAPE[0] * SHAPE[1]), VALUES)
}

#[test]
fn five_percent_density_takes_what_the_formats_say_and_comes_back() {
    let weights = bytes(&weights());
    let dense = weights.len() as f64;
    let values = 4 * VALUES + 4 + 4;
    for (spec, bytes, ratio) in [
        ("sparse.csr:index=u32", values + 4 * 2001 + 4 * VALUES, 9.9),
        ("sparse.csr:index=narrow", values + 4 * 2001 + 2 * VALUES, 13.0),
        ("sparse.coo", values + 4 * 62 + 2 * VALUES, 13.0),
        ("sparse.bitmap", values + 4_000_000 / 8, 12.0),
    ] {
        let encoded = restored(spec, Dtype::F32, &SHAPE, &weights);
        assert_eq!((encoded.payload.bytes(), encoded.certificate.exact), (bytes as u64, true), "{spec}");
        assert!(dense / bytes as f64 >= ratio, "{spec}: {}", dense / bytes as f64);
    }
    let gap = restored("sparse.csr:index=gap", Dtype::F32, &SHAPE, &weights);
    let skips = section(&gap, "gaps").iter().map(|gap| usize::from(*gap == 255)).sum::<usize>();
    assert_eq!(gap.payload.bytes(), (values + 2 * 2000 + VALUES + skips) as u64);
    assert!(dense / gap.payload.bytes() as f64 >= 15.0);
    let coded = restored("sparse.csr:index=coded", Dtype::F32, &SHAPE, &weights);
    assert!(dense / coded.payload.bytes() as f64 >= 16.85, "{} bytes", coded.payload.bytes());
    let best = restored("sparse", Dtype::F32, &SHAPE, &weights);
    assert_eq!(best.payload.sections(), gap.payload.sections());
}

#[test]
fn four_bit_values_make_it_forty_times_smaller_and_zeros_stay_zeros() {
    let weights = weights();
    let encoded = encoded_f32("sparse.csr:preset=gap-int4", &SHAPE, &weights);
    assert!(16e6 / encoded.payload.bytes() as f64 >= 40.0, "{} bytes", encoded.payload.bytes());
    let decoded = encoded.decode(&DecodeCx::new()).unwrap();
    let (found, wanted) = (encoded.certificate, Certificate::measure(&weights, &decoded));
    assert!(found.agrees_with(&wanted), "{found:?}");
    assert!(weights.iter().zip(&decoded).all(|(w, d)| *w != 0.0 || d.to_bits() == 0));
}

#[test]
fn the_smallest_form_wins_at_every_density() {
    let all = harness::testing::weights("gaussian:256x1024", 256 * 1024);
    for (per_million, form) in [
        (0, "offsets"),
        (20, "offsets"),
        (2_000, "offsets"),
        (20_000, "gaps"),
        (100_000, "gaps"),
        (400_000, "bitmap"),
        (1_000_000, "dense/data"),
    ] {
        let weights = bytes(&with_exactly(&all, all.len() * per_million / 1_000_000));
        let best = restored("sparse", Dtype::F32, &[256, 1024], &weights);
        assert!(best.payload.view().has(form), "{per_million}: {:?}", best.payload.sections().keys());
        for other in FORMS.into_iter().filter(|spec| !spec.contains(".nm") && !spec.contains("coded")) {
            let other = restored(other, Dtype::F32, &[256, 1024], &weights);
            assert!(best.payload.bytes() <= other.payload.bytes(), "{per_million}: {:?}", other.codec);
        }
    }
}

#[test]
fn two_of_four_takes_nine_bits_a_half() {
    let all = harness::testing::weights("gaussian:64x256", 64 * 256);
    let halves: Vec<u8> = (all.iter().enumerate())
        .flat_map(|(i, w)| half::f16::from_f32(if i % 4 < 2 { *w } else { 0.0 }).to_le_bytes())
        .collect();
    let encoded = restored("sparse.nm", Dtype::F16, &[64, 256], &halves);
    assert!(is_sparse(&encoded));
    assert_eq!(encoded.payload.bytes(), 64 * 256 * 9 / 8 + 8);
}

#[test]
fn what_is_not_sparse_costs_nothing_more() {
    let weights = bytes(&harness::testing::weights("gaussian:64x64", 64 * 64));
    for spec in FORMS {
        let encoded = restored(spec, Dtype::F32, &[64, 64], &weights);
        assert!(!is_sparse(&encoded));
        assert_eq!(encoded.payload.bytes(), 4 * 64 * 64 + 4, "{spec}");
    }
}
