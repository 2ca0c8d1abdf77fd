//! What a small payload may expand to.

use codec_api::{BaseTensor, CodecError, DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
use codecs as _;

/// Zeros, which need 32 MiB as f32 and a few bytes as a payload.
const SHAPE: [usize; 2] = [2048, 4096];

#[test]
fn a_tiny_payload_of_a_large_tensor_needs_permission() {
    let registry = Registry::linked().unwrap();
    let zeros = vec![0.0; SHAPE[0] * SHAPE[1]];
    let tensor = TensorView::from_f32(SHAPE, &zeros).unwrap();
    for spec in ["lossless", "lossless.zstd", "sparse"] {
        let codec = registry.parse_spec(spec).unwrap();
        let encoded = EncodedTensor::encode(codec, tensor.clone(), &EncodeCx::new(0)).unwrap();
        assert!(encoded.payload.bytes() < 65_536, "{spec}: {}", encoded.payload.bytes());
        let error = encoded.decode(&DecodeCx::new()).unwrap_err();
        assert!(matches!(error, CodecError::Limit(_)), "{spec}: {error}");
        assert!(error.to_string().contains("decodes to 33554432 bytes, and at most 25165824 are allowed"), "{error}");
        assert!(encoded.decode_bytes(&DecodeCx::new()).is_err(), "{spec}");
        assert_eq!(encoded.decode(&DecodeCx::new().with_max_output(1 << 25)).unwrap(), zeros, "{spec}");
        // The caller has allocated the output already.
        encoded.decode_into(&DecodeCx::new(), &mut zeros.clone()).unwrap();
    }
}

#[test]
fn a_base_justifies_a_tensor_of_its_size() {
    let registry = Registry::linked().unwrap();
    let values: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(|i| (i % 251) as f32).collect();
    let base = BaseTensor::new(TensorView::from_f32(SHAPE, &values).unwrap());
    let cx = EncodeCx::new(0).with_base(base.clone());
    let codec = registry.parse_spec("delta.exact").unwrap();
    let encoded = EncodedTensor::encode(codec, TensorView::from_f32(SHAPE, &values).unwrap(), &cx).unwrap();
    assert!(encoded.payload.bytes() < 65_536, "{}", encoded.payload.bytes());
    assert_eq!(encoded.decode(&DecodeCx::new().with_base(base)).unwrap(), values);
}
