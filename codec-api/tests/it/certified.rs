//! The certificate is that of the tensor that a user gets back; what is no better than zeros is
//! refused.

use std::sync::Arc;

use codec_api::{Certificate, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Payload, TensorSpec, TensorView};

use crate::sign::registry;

#[test]
fn it_is_measured_on_the_stored_dtype() {
    // Halfway between two BF16 numbers at the decoded weight 1.
    let codec = registry().parse_spec("test.sign").expect("a codec");
    let source: Vec<u8> =
        [1.5f32, -1.0, 0.75, 2.0].iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    let spec = TensorSpec::new(Dtype::BF16, [4]).expect("a spec");
    let view = TensorView::new(spec, &source).expect("a tensor");
    let encoded = EncodedTensor::encode(codec, view, &EncodeCx::new(0)).expect("a payload");
    assert_eq!(encoded.certificate.max_abs, 1.0);
    assert_eq!(encoded.certificate.squared_error, 0.25 + 0.0625 + 1.0);
    assert_eq!(encoded.certificate.energy, 2.25 + 1.0 + 0.5625 + 4.0);
    let bytes = encoded.decode_bytes(&DecodeCx::new()).expect("bytes");
    let decoded: Vec<f32> = bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect();
    assert_eq!(decoded, [1.0, -1.0, 1.0, 1.0]);
}

#[test]
fn worse_than_zeros_is_refused_with_the_number() {
    let codec = registry().parse_spec("test.sign:exponent=2").expect("a codec");
    let encode = |values: &[f32]| {
        EncodedTensor::encode(Arc::clone(&codec), TensorView::from_f32([values.len()], values)?, &EncodeCx::new(0))
    };
    let error = encode(&[1.0, 1.0]).expect_err("4 for 1");
    assert!(matches!(error, CodecError::Unsuitable { number: 9.0, .. }), "{error}");
    assert!(error.is_refusal());
    let error = encode(&[2.0, -2.0]).expect_err("as far from the source as zeros are");
    assert!(matches!(error, CodecError::Unsuitable { number: 1.0, .. }), "{error}");
    assert!(error.to_string().contains("zeros would be as near to this tensor"), "{error}");
    assert!(encode(&[2.0, -2.125]).expect("nearer than zeros").certificate.nmse() < 1.0);
}

#[test]
fn certificates_of_chunks_add_up() {
    let source: Vec<f32> = (0..300u16).map(|i| f32::from(i) * 0.25 - 30.0).collect();
    let decoded: Vec<f32> = source.iter().map(|v| v.round()).collect();
    let whole = Certificate::measure(&source, &decoded);
    let mut sum = Certificate::EMPTY;
    for (a, b) in source.chunks(70).zip(decoded.chunks(70)) {
        sum.add(&Certificate::measure(a, b));
    }
    assert_eq!(sum, whole, "sums of quarters are exact");
}

#[test]
fn sections_have_names_of_their_own() {
    let section = || codec_api::Section::from_bytes(vec![1]).expect("a byte");
    let payload = Payload::new().with("a", section()).expect("a section");
    for name in ["a", "", "a/b"] {
        assert!(matches!(payload.clone().with(name, section()), Err(CodecError::Usage(_))), "{name:?}");
    }
    let nested = Payload::new().with_scope("x", payload.clone()).expect("a scope");
    assert!(matches!(nested.clone().with_scope("x", payload.clone()), Err(CodecError::Usage(_))));
    assert!(matches!(nested.with_scope("x/y", payload), Err(CodecError::Usage(_))));
}

#[test]
fn payloads_name_their_bases() {
    let inner = Payload::new().with_base([7; 32]).expect("a base");
    let payload = Payload::new().with_scope("inner", inner).and_then(|p| p.with_base([9; 32])).expect("two bases");
    assert_eq!(payload.bases(), [[9; 32], [7; 32]]);
}
