//! The example of the crate's documentation keeps all laws.

mod sign;

laws::conformance!();

#[test]
fn it_is_used_like_this() -> Result<(), Box<dyn std::error::Error>> {
    use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
    let registry = Registry::linked()?;
    let codec = registry.parse_spec("example.sign")?;
    let weights = [1.0, -2.0, 3.0, -4.0];
    let encoded = EncodedTensor::encode(codec, TensorView::from_f32([2, 2], &weights)?, &EncodeCx::new(0))?;
    assert_eq!(encoded.payload.bytes(), 5);
    let read = EncodedTensor::from_bytes(&encoded.to_bytes()?.into(), &registry)?;
    assert_eq!(read.decode(&DecodeCx::new())?, [2.5, -2.5, 2.5, -2.5]);
    assert_eq!(read.certificate.max_abs, 1.5);
    Ok(())
}
