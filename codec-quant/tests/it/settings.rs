//! Settings beyond the presets: every width, every kind of group, with and without zero points and
//! clipping.

use std::sync::Arc;

use codec_api::{
    Certificate, Codec, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, TensorSpec, TensorView,
};

fn encode(codec: &Arc<dyn Codec>, shape: [usize; 2], values: &[f32]) -> EncodedTensor {
    EncodedTensor::encode(codec.clone(), TensorView::from_f32(shape, values).unwrap(), &EncodeCx::new(0)).unwrap()
}

#[test]
fn every_certificate_is_the_error_of_the_decoded_weights() {
    let registry = Registry::linked().unwrap();
    let values: Vec<f32> = (0..64 * 100).map(|i| ((i * 7919 + 13) % 10_007) as f32 / 5003.0 - 1.0).collect();
    let presets =
        registry.presets().filter(|(entry, ..)| entry.origin.0 == env!("CARGO_PKG_NAME")).map(|(.., codec)| codec);
    let probes = registry.entries().flat_map(|entry| (entry.probes)());
    let settings = probes.map(|spec| registry.parse_spec(&spec).unwrap());
    for codec in presets.chain(settings) {
        let ragged = TensorSpec::new(Dtype::F32, [64, 100]).unwrap();
        let shape = if codec.accepts(&ragged).is_ok() { [64, 100] } else { [25, 256] };
        let encoded = encode(&codec, shape, &values);
        let decoded = encoded.decode(&DecodeCx::new()).unwrap();
        let (found, stated) = (Certificate::measure(&values, &decoded), encoded.certificate);
        assert!(stated.agrees_with(&found), "{codec:?}: {stated:?}, but it is {found:?}");
    }
}

#[test]
fn a_later_block_may_be_far_larger_than_the_first() {
    let registry = Registry::linked().unwrap();
    let codec = registry.parse_spec("quant.int:bits=8:group=64").unwrap();
    // More rows than an encoder handles at once; the last ones are 2^60 times the first.
    let mut values: Vec<f32> = (0..1024 * 128).map(|i| ((i * 7919 + 13) % 10_007) as f32 / 5003.0 - 1.0).collect();
    let large = 1000 * 128;
    for v in &mut values[large..] {
        *v *= (1u64 << 60) as f32;
    }
    let decoded = encode(&codec, [1024, 128], &values).decode(&DecodeCx::new()).unwrap();
    let scale = values[large..].iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let error = Certificate::measure(&values[large..], &decoded[large..]).max_abs;
    assert!(error <= f64::from(scale) / 250.0, "error {error} of {scale}");
}

#[test]
fn f16_refuses_what_it_cannot_hold() {
    let registry = Registry::linked().unwrap();
    let codec = registry.parse_spec("quant.cast:to=f16").unwrap();
    let tensor = TensorView::from_f32([2], &[1.0, 1e6]).unwrap();
    let error = codec.encode(tensor, &EncodeCx::new(0)).unwrap_err();
    assert!(matches!(error, CodecError::Unsuitable { number: 1e6, .. }), "{error}");
    assert_eq!(error.to_string(), "unsuitable: a weight is beyond the range of F16: max |w| (1000000)");
}

#[test]
fn ternary_sums_may_be_beyond_f32_and_infinities_are_still_found() {
    let registry = Registry::linked().unwrap();
    let mut values = vec![3e38f32; 1000];
    for spec in ["quant.ternary", "quant.ternary:fit=absmean", "quant.ternary:scope=row"] {
        let codec = registry.parse_spec(spec).unwrap();
        let decoded = encode(&codec, [10, 100], &values).decode(&DecodeCx::new()).unwrap();
        assert!(decoded.iter().all(|v| (v / 3e38 - 1.0).abs() < 1e-5), "{spec}: {}", decoded[0]);
        for bad in [f32::INFINITY, f32::NAN] {
            values[777] = bad;
            let error = codec.encode(TensorView::from_f32([10, 100], &values).unwrap(), &EncodeCx::new(0)).unwrap_err();
            assert!(matches!(error, CodecError::NonFinite { index: 777 }), "{spec}: {error}");
            values[777] = 3e38;
        }
    }
}
