//! Tiny and constant tensors, outliers, and every CPU level.

use codec_api::{Codec, DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
use codec_trellis::Trellis;
use harness::testing::weights;
use simd::{Level, with_level};

use super::{assert_same_bits, decode, encode, nmse};

#[test]
fn tiny_tensors_take_no_more_than_their_bytes() {
    let values = weights("gaussian", 5000);
    for n in [1, 2, 3, 5, 17, 31, 32, 33, 63, 100, 129, 500, 1000, 5000] {
        for (bits, states) in [(0.3, 256), (1.0, 8), (2.0, 64), (4.0, 8), (8.0, 8)] {
            let encoded =
                encode(&format!("trellis:bits={bits}:states={states}"), &[n], &values[..n], &EncodeCx::new(0));
            let bytes = bits * n as f64 / 8.0;
            let most = (bytes + (24.0 - bytes / 64.0).max(0.0)).min(4.0 * n as f64);
            assert!(encoded.payload.bytes() as f64 <= most, "{n} weights at {bits} bits: {:?}", encoded.payload);
            assert!(nmse(&values[..n], &decode(&encoded)) <= 1.0 + 1e-9, "{n} weights at {bits} bits");
        }
    }
}

#[test]
fn outliers_are_not_clamped() {
    let mut values = weights("gaussian", 64 * 64);
    for (place, outlier) in [(7, 300.0), (1000, -4e4), (2000, 1e12), (4095, -3e38)] {
        values[place] = outlier;
    }
    for spec in ["trellis:step=0.2", "trellis:step=0.2:states=64", "trellis:step=0.01"] {
        let decoded = decode(&encode(spec, &[64, 64], &values, &EncodeCx::new(0)));
        for (w, v) in values.iter().zip(&decoded) {
            assert!((w - v).abs() < 0.7 + w.abs() * 1e-3, "{spec}: {w} became {v}");
        }
    }
}

#[test]
fn an_outlier_takes_nothing_from_the_others() {
    let mut values = weights("gaussian", 256 * 256);
    values[77] = 1e8;
    for bits in [2.0, 4.0] {
        let encoded = encode(&format!("trellis:bits={bits}"), &[256, 256], &values, &EncodeCx::new(0));
        let decoded = decode(&encoded);
        assert!((decoded[77] - 1e8).abs() <= 1.0, "{}", decoded[77]);
        let found = encoded.payload.bytes() as f64 * 8.0 / 65536.0;
        assert!((0.995 * bits..=bits).contains(&found), "{found} bits");
        let (rest, decoded) = (&values[78..], &decoded[78..]);
        assert!(nmse(rest, decoded) < 1.2 * (-2.0 * bits).exp2(), "{bits} bits: {}", nmse(rest, decoded));
    }
}

#[test]
fn steps_and_parts_that_are_too_small_for_arithmetic() {
    let tiny: Vec<f32> = weights("gaussian", 1000).iter().map(|w| w * 1e-35).collect();
    let mut huge = weights("gaussian", 1000);
    huge[3] = 3e38;
    huge[4] = 0.0;
    for (values, step) in [(&tiny, "0.01"), (&tiny, "1e-30"), (&huge, "1e-10"), (&huge, "1e-20"), (&huge, "1e30")] {
        // Without a certificate, because a step above all weights gives zeros, which are refused.
        let codec = Registry::linked().unwrap().parse_spec(&format!("trellis:step={step}")).unwrap();
        let tensor = TensorView::from_f32([1000], values).unwrap();
        let payload = EncodedTensor::encode_payload(&*codec, tensor.clone(), &EncodeCx::new(0)).unwrap();
        let mut decoded = vec![f32::NAN; 1000];
        codec.decode(tensor.spec(), payload.view(), &DecodeCx::new(), &mut decoded).unwrap();
        assert!(decoded.iter().all(|v| v.is_finite()), "{step}");
    }
    // The first segments that the search looks at are all zero.
    let mut values = vec![0.0; 4096 * 1024];
    for (w, v) in values[300_000..].iter_mut().zip(weights("gaussian", 2000)) {
        *w = v;
    }
    for spec in ["trellis:error=0.01", "trellis:bits=0.5"] {
        let decoded = decode(&encode(spec, &[4096, 1024], &values, &EncodeCx::new(0)));
        assert!(nmse(&values, &decoded) <= 0.01, "{spec}: {}", nmse(&values, &decoded));
    }
}

#[test]
fn every_level_encodes_and_decodes_to_the_same_bits() {
    let gaussian = weights("scale-mixed", 3 * 1111);
    for spec in
        ["trellis:bits=0.7", "trellis:bits=3:states=32", "trellis:bits=7:states=256", "trellis:bits=2:states=1024"]
    {
        let scalar = with_level(Level::Scalar, || encode(spec, &[3, 1111], &gaussian, &EncodeCx::new(0)));
        let expected = with_level(Level::Scalar, || decode(&scalar));
        for level in Level::available() {
            let encoded = with_level(level, || encode(spec, &[3, 1111], &gaussian, &EncodeCx::new(0)));
            assert!(encoded.payload == scalar.payload, "{spec}, {level}");
            assert_same_bits(&with_level(level, || decode(&encoded)), &expected, spec);
        }
    }
}

#[test]
fn a_raw_tensor_is_never_longer_and_not_changed() {
    let values: Vec<f32> = (0..40).map(|i| (i as f32).exp2()).collect();
    let encoded = encode("trellis:error=1e-9", &[40], &values, &EncodeCx::new(0));
    assert!(encoded.payload.bytes() <= 160);
    assert!(nmse(&values, &decode(&encoded)) <= 1e-9);
}

#[test]
fn wrong_settings_say_what_is_right() {
    let registry = codec_api::Registry::linked().unwrap();
    for (spec, words) in [
        ("trellis:states=7", "4, 8, 16, 32, 64, 128, 256 or 1024"),
        ("trellis:bits=0.1", "from 0.25 to 16"),
        ("trellis:bits=17", "from 0.25 to 16"),
        ("trellis:error=0", "from 0.000000001 to 1"),
        ("trellis:step=0", "`step` 0 is out of range"),
        ("trellis:bits=3:error=0.1", "one of `bits`, `error` and `step`"),
        ("trellis:lambda=2", "from 0 to 1"),
    ] {
        let message = registry.parse_spec(spec).unwrap_err().to_string();
        assert!(message.contains(words), "{spec}: {message}");
    }
    let codec: &dyn Codec = &Trellis::default();
    assert_eq!(registry.spec_of(codec), "trellis:states=8:bits=4.0:lambda=0.36");
}
