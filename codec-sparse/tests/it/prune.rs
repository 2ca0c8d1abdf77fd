//! The weights that pruning keeps.

use crate::support::{bytes, codec, encoded, encoded_f32, noise, section};
use codec_api::{
    Calibration, Chunking, CodecError, DecodeCx, Dtype, EncodeCx, InputAxis, Need, Registry, Statistics, TensorSpec,
    TensorView, survey,
};

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
            assert_eq!(bytes(&expected), bytes(&found), "{inner} {rule}: {found:?}");
        }
    }
}

#[test]
fn the_error_is_against_the_weights_before_pruning() {
    let weights = [1.0, -3.0, 2.0, 3.0, -0.5, 2.0, -2.0, 0.25];
    let encoded = encoded_f32("sparse.prune:density=0.5", &[2, 4], &weights);
    assert_eq!((encoded.certificate.max_abs, encoded.certificate.exact), (2.0, false));
    assert!(codec("sparse.prune:density=0.5").as_lossless().is_none());
    assert_eq!(encoded_f32("sparse.prune:density=1", &[2, 4], &weights).certificate.max_abs, 0.0);
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
fn the_share_of_a_tensor_is_that_of_one_long_row() {
    let gaussian = harness::testing::weights("gaussian:48x40", 48 * 40);
    let equal = vec![-0.75; gaussian.len()];
    // Few magnitudes, which differ in their lowest bits only; some are zero.
    let near = |i: u64| {
        if noise(i).is_multiple_of(5) { -0.0 } else { f32::from_bits(0x3f80_0000 + (noise(i) >> 32) as u32 % 4) }
    };
    let near: Vec<f32> = (0..gaussian.len() as u64).map(near).collect();
    let tiny: Vec<f32> = (0..gaussian.len() as u64).map(|i| f32::from_bits((noise(i) % 9) as u32)).collect();
    for weights in [gaussian, equal, near, tiny] {
        for density in ["1e-9", "0.001", "0.1", "0.3", "0.5", "0.799", "0.999", "1"] {
            let rows = kept(&format!("sparse.prune:density={density}"), &[48, 40], &weights);
            assert!(bytes(&rows) == bytes(&in_chunks(density, &weights)), "chunks, {density} of {:?}", &weights[..4]);
            let row = kept(&format!("sparse.prune:density={density}:scope=row"), &[1, 48 * 40], &weights);
            assert!(bytes(&rows) == bytes(&row), "{density} of {:?}", &weights[..4]);
        }
    }
}

/// As [`kept`], in four chunks of 13 rows at most.
fn in_chunks(density: &str, weights: &[f32]) -> Vec<f32> {
    let (codec, tensor) =
        (codec(&format!("sparse.prune:density={density}")), TensorView::from_f32([48, 40], weights).unwrap());
    let chunks = [0..13, 13..26, 26..39, 39..48];
    let observe_all = |found: Option<&Statistics>| {
        let mut cx = EncodeCx::new(7);
        cx.shared = found.map(Statistics::shared);
        let observe = |rows: &std::ops::Range<usize>| {
            let cx = cx.for_rows(tensor.spec(), rows.clone())?;
            codec.as_surveyed().unwrap().observe(tensor.rows(rows.start, rows.end)?, &cx)
        };
        chunks.iter().map(observe).collect()
    };
    let found = survey(codec.as_surveyed().unwrap(), observe_all).unwrap();
    let cx = EncodeCx::new(7).with_shared(found.shared());
    let decoded = chunks.iter().flat_map(|rows| {
        let chunk = tensor.rows(rows.start, rows.end).unwrap();
        let payload = codec.encode(chunk.clone(), &cx.for_rows(tensor.spec(), rows.clone()).unwrap()).unwrap();
        let mut values = vec![0.0; chunk.spec().elements()];
        codec.decode(chunk.spec(), payload.view(), &DecodeCx::new(), &mut values).unwrap();
        values
    });
    decoded.collect()
}

#[test]
fn chunks_are_those_of_an_inner_codec_without_statistics_of_the_tensor() {
    let spec = TensorSpec::new(Dtype::F32, [64, 64]).unwrap();
    let rows = Chunking::Rows(std::num::NonZeroUsize::MIN);
    for (text, expected, surveyed) in [
        ("sparse.prune:density=0.5", rows, true),
        ("sparse.prune:density=0.5:scope=row", rows, false),
        ("sparse.prune:pattern=2of4", rows, false),
        ("sparse.prune(quant.int:group=tensor):density=0.5", Chunking::Whole, false),
        ("sparse.prune(quant.nvfp4):pattern=2of4", Chunking::Whole, false),
        ("sparse.csr", rows, false),
        ("sparse.csr(quant.int:group=tensor)", Chunking::Whole, false),
        ("sparse.csr(sparse.prune:density=0.5)", Chunking::Whole, false),
    ] {
        let codec = codec(text);
        assert_eq!((codec.chunking(&spec), codec.as_surveyed().is_some()), (expected, surveyed), "{text}");
    }
}

#[test]
fn calibration_goes_to_an_inner_codec_that_uses_it() {
    let weights = harness::testing::weights("gaussian:16x256", 16 * 256);
    let tensor = TensorView::from_f32([16, 256], &weights).unwrap();
    let squares: Vec<f32> = (0..256).map(|i| 1.0 + (noise(i) % 100) as f32).collect();
    let plain = EncodeCx::new(7);
    let weighted = plain.clone().with_calibration(Calibration::new(InputAxis::Columns, &squares));
    let (inner, pruned) = (codec("quant.int:bits=3"), codec("sparse.prune(quant.int:bits=3):threshold=0"));
    assert_eq!(pruned.needs().calibration, Need::Uses);
    assert_eq!(codec("sparse.prune:threshold=0").needs().calibration, Need::No);
    let alone = inner.encode(tensor.clone(), &weighted).unwrap();
    let kept = pruned.encode(tensor.clone(), &weighted).unwrap();
    for (name, section) in alone.sections() {
        assert_eq!(&kept.sections()[&format!("kept/{name}")], section, "{name}");
    }
    assert_ne!(pruned.encode(tensor, &plain).unwrap().sections(), kept.sections());
}

#[test]
fn a_nan_that_would_be_pruned_is_refused_all_the_same() {
    let mut weights = [1.0; 64];
    weights[17] = f32::NAN;
    let tensor = TensorView::from_f32([8, 8], &weights).unwrap();
    let answer = codec("sparse.prune:density=0.1").encode(tensor, &EncodeCx::new(0));
    assert!(matches!(answer, Err(CodecError::NonFinite { index: 17 })), "{answer:?}");
}
