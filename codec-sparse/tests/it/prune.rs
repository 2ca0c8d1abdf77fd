//! The weights that pruning keeps.

use crate::support::{codec, encoded, encoded_f32, section};
use codec_api::{Bound, Chunking, CodecError, DecodeCx, Dtype, EncodeCx, Registry, TensorSpec, TensorView};

fn kept(spec: &str, shape: &[usize], weights: &[f32]) -> Vec<f32> {
    encoded_f32(spec, shape, weights).decode(&DecodeCx::new()).expect("its own payload decodes")
}

#[test]
fn density_threshold_and_pattern_keep_the_largest() {
    let weights = [1.0, -3.0, 2.0, 3.0, -0.5, 2.0, -2.0, -0.0];
    for (rule, expected) in [
        ("density=0.5", [0.0, -3.0, 2.0, 3.0, 0.0, 2.0, 0.0, 0.0]),
        ("density=0.25:scope=row", [0.0, -3.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]),
        ("threshold=1.5", [0.0, -3.0, 2.0, 3.0, 0.0, 2.0, -2.0, 0.0]),
        ("pattern=1of4", [0.0, -3.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]),
        ("pattern=2of4", [0.0, -3.0, 0.0, 3.0, 0.0, 2.0, -2.0, 0.0]),
    ] {
        for inner in ["", "(lossless.raw)", "(sparse.bitmap)"] {
            let found = kept(&format!("sparse.prune{inner}:{rule}"), &[2, 4], &weights);
            assert!(Bound::Exact.holds(&expected, &found), "{inner} {rule}: {found:?}");
        }
    }
}

#[test]
fn the_bound_is_against_the_weights_before_pruning() {
    let weights = [1.0, -3.0, 2.0, 3.0, -0.5, 2.0, -2.0, 0.25];
    let encoded = encoded_f32("sparse.prune:density=0.5", &[2, 4], &weights);
    assert_eq!(encoded.payload.bound(), Bound::MaxAbs(2.0));
    assert!(codec("sparse.prune:density=0.5").as_lossless().is_none());
    assert_eq!(encoded_f32("sparse.prune:density=1", &[2, 4], &weights).payload.bound(), Bound::MaxAbs(0.0));
}

#[test]
fn halves_stay_halves() {
    let weights: Vec<f32> = (0..1000).map(|i| if i % 10 == 0 { 100.5 + i as f32 / 16.0 } else { 1.0 }).collect();
    let bytes: Vec<u8> = weights.iter().flat_map(|w| half::f16::from_f32(*w).to_le_bytes()).collect();
    let tensor = TensorView::new(TensorSpec::new(Dtype::F16, [10, 100]).unwrap(), &bytes).unwrap();
    let encoded = encoded("sparse.prune(sparse.csr):density=0.1", tensor).unwrap();
    let expected: Vec<u8> = bytes.chunks(2).step_by(10).flatten().copied().collect();
    assert_eq!(section(&encoded, "kept/values/data"), expected);
}

#[test]
fn two_of_four_suits_groups_of_values() {
    let weights = harness::testing::weights("gaussian:64x256", 64 * 256);
    let encoded = encoded_f32("sparse.prune:preset=2of4", &[64, 256], &weights);
    let decoded = encoded.decode(&DecodeCx::new()).unwrap();
    assert_eq!(decoded.chunks(4).filter(|group| group.iter().filter(|w| **w != 0.0).count() > 2).count(), 0);
    assert!(encoded.payload.view().has("kept/positions"));
    // Per row: 128 values of 8 bits, 2 bits for the position of each, and a scale of 2 bytes.
    assert_eq!(encoded.payload.bytes(), 64 * (128 + 32 + 2) + 1);
}

#[test]
fn wrong_rules_are_refused_by_name() {
    let registry = Registry::linked().unwrap();
    for (keys, named) in [
        ("", "`density`, `threshold` and `pattern`"),
        (":density=0.5:threshold=1", "exactly one"),
        (":density=0", "density"),
        (":density=1.5", "density"),
        (":threshold=-1", "threshold"),
        (":threshold=1:scope=row", "scope"),
        (":density=0.5:scope=column", "scope"),
        (":pattern=5of4", "pattern"),
        (":pattern=2:4", "pattern"),
        (":pattern=02of4", "pattern"),
        (":pattern=2of17", "pattern"),
    ] {
        let refused = registry.parse_spec(&format!("sparse.prune{keys}")).unwrap_err().to_string();
        assert!(refused.contains(named), "{keys}: {refused}");
    }
    let refused = registry.parse_spec("sparse.nm:n=5:m=4").unwrap_err().to_string();
    assert!(refused.contains("`n` is 5"), "{refused}");
}

#[test]
fn only_a_share_of_the_tensor_keeps_it_whole() {
    let spec = TensorSpec::new(Dtype::F32, [64, 64]).unwrap();
    let rows = Chunking::Rows(std::num::NonZeroUsize::MIN);
    for (text, expected) in [
        ("sparse.prune:density=0.5", Chunking::Whole),
        ("sparse.prune:density=0.5:scope=row", rows),
        ("sparse.prune:pattern=2of4", rows),
        ("sparse.csr", rows),
        ("sparse.csr(quant.int:group=tensor)", Chunking::Whole),
    ] {
        assert_eq!(codec(text).chunking(&spec), expected, "{text}");
    }
}

#[test]
fn a_nan_that_would_be_pruned_is_refused_all_the_same() {
    let mut weights = [1.0; 64];
    weights[17] = f32::NAN;
    let tensor = TensorView::from_f32([8, 8], &weights).unwrap();
    let answer = codec("sparse.prune:density=0.1").encode(tensor, &EncodeCx::new(0));
    assert!(matches!(answer, Err(CodecError::NonFinite { index: 17 })), "{answer:?}");
}
