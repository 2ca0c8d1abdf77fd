//! An operator is refused where a decode is: before memory is allocated that the payload does not
//! justify.

use codec_api::{CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Payload, Registry, Section, TensorView};
use codecs as _;

fn encoded(registry: &Registry, spec: &str) -> EncodedTensor {
    let weights: Vec<f32> = (0..64 * 128u16).map(|i| f32::from(i % 97) - 40.0).collect();
    let tensor = TensorView::from_f32([64, 128], &weights).expect("the shape fits");
    let codec = registry.parse_spec(spec).expect("a valid spec");
    EncodedTensor::encode(codec, tensor, &EncodeCx::new(0)).expect("it encodes")
}

fn refusal(encoded: &EncodedTensor) -> CodecError {
    runtime::operator(encoded, &DecodeCx::new()).expect_err("a refusal")
}

#[test]
fn a_payload_of_another_size_than_the_codec_states_is_refused() {
    let registry = Registry::linked().unwrap();
    // The sections alone are those of a valid payload of rank 4.
    let mut found = encoded(&registry, "lowrank.svd(lossless.raw):rank=4");
    found.codec = registry.parse_spec("lowrank.svd(lossless.raw):rank=8").unwrap();
    let (error, decode) = (refusal(&found), found.decode(&DecodeCx::new()).unwrap_err());
    assert!(matches!(&error, CodecError::Corrupt { section, .. } if section == "*"), "{error}");
    assert_eq!(error.to_string(), decode.to_string());
}

#[test]
fn no_codec_makes_an_operator_of_an_enormous_tensor_from_a_small_payload() {
    let registry = Registry::linked().unwrap();
    let enormous = codec_api::TensorSpec::new(Dtype::F32, [1 << 24, 1 << 24]).unwrap();
    let specs = ["quant.int:bits=4", "sparse", "sparse.csr", "trellis", "hadamard(quant.int:bits=4)", "lossless"];
    for spec in specs.into_iter().chain(["residual(quant.ternary,quant.int:bits=4)", "lowrank.svd(lossless):rank=4"]) {
        let mut found = encoded(&registry, spec);
        runtime::operator(&found, &DecodeCx::new()).unwrap();
        found.spec = enormous.clone();
        let error = refusal(&found);
        let refused = matches!(error, CodecError::Corrupt { .. } | CodecError::Limit(_) | CodecError::Unsupported(_));
        assert!(refused, "{spec}: {error}");
    }
}

#[test]
fn the_factors_of_a_small_payload_need_permission() {
    let registry = Registry::linked().unwrap();
    let mut found = encoded(&registry, "lowrank.svd(lossless):rank=4");
    found.codec = registry.parse_spec("lowrank.svd(lossless):rank=2000").unwrap();
    // Zeros take a 2^20th, so that a few kilobytes stand for two factors of 32 MiB.
    let (rank, side) = (2000, 1 << 12);
    let zeros = vec![0.0; rank * side];
    let factor = TensorView::from_f32([rank, side], &zeros).unwrap();
    let factor = registry.parse_spec("lossless").unwrap().encode(factor, &EncodeCx::new(0)).unwrap();
    let section = |dtype, shape: [usize; 1], bytes: usize| Section::new(dtype, shape, vec![0; bytes]).unwrap();
    let payload = Payload::new().with("s", section(Dtype::F32, [rank], 4 * rank)).unwrap();
    let payload = payload.with("exponent", section(Dtype::I16, [1], 2)).unwrap();
    found.payload = payload.with_scope("u", factor.clone()).unwrap().with_scope("v", factor).unwrap();
    found.spec = codec_api::TensorSpec::new(Dtype::F32, [side, side]).unwrap();
    assert!(found.payload.bytes() < 16384, "{}", found.payload.bytes());
    let error = refusal(&found);
    assert!(error.to_string().contains("decodes to 32768000 bytes, and at most 25165824 are allowed"), "{error}");
    assert!(found.open_rows(&DecodeCx::new()).is_err());
    runtime::operator(&found, &DecodeCx::new().with_max_output(1 << 25)).unwrap();
}
