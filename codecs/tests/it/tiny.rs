//! Weights so small that a format makes zeros of them: no codec gives zeros for weights.

use codec_api::{BaseTensor, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, TensorSpec, TensorView};
use codecs as _;

const SHAPE: [usize; 2] = [8, 256];

/// Weights between a half and one and a half of `scale`, of both signs.
fn stored(dtype: Dtype, scale: f64) -> Vec<u8> {
    let weight = |i: usize| (scale * (0.5 + (i * 7919 % 101) as f64 / 100.0) * [1.0, -1.0][i % 3 % 2]) as f32;
    let weights: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(weight).collect();
    let mut bytes = vec![0; weights.len() * dtype.bitsize() / 8];
    codec_api::util::narrow(dtype, &weights, &mut bytes).expect("a float dtype");
    bytes
}

#[test]
fn no_codec_gives_zeros_for_weights() {
    let registry = Registry::linked().unwrap();
    let f16 = f64::from(2f32.powi(-24));
    let tensors =
        [(Dtype::F32, 1e-40), (Dtype::F32, 1e-44), (Dtype::F32, f16), (Dtype::F16, f16), (Dtype::BF16, 1e-40)];
    let (mut kept, mut refused) = (0, 0);
    for (entry, preset, codec) in registry.presets().filter(|(entry, ..)| !entry.slow_presets) {
        for (dtype, scale) in tensors {
            let (spec, bytes) = (TensorSpec::new(dtype, SHAPE).unwrap(), stored(dtype, scale));
            let zeros = vec![0; bytes.len()];
            let base = BaseTensor::new(TensorView::new(spec.clone(), &zeros).unwrap());
            let tensor = TensorView::new(spec, &bytes).unwrap();
            let cx = EncodeCx::new(0).with_base(base.clone());
            let case = format!("{} {preset}, {dtype} of {scale:e}", entry.id);
            match EncodedTensor::encode(codec.clone(), tensor, &cx) {
                Ok(encoded) => {
                    kept += 1;
                    let decoded = encoded.decode_bytes(&DecodeCx::new().with_base(base)).unwrap();
                    assert!(decoded.iter().any(|byte| byte & 0x7f != 0), "{case}: zeros");
                    let certificate = encoded.certificate;
                    assert!(certificate.squared_error < certificate.energy, "{case}: {certificate:?}");
                }
                Err(CodecError::Unsuitable { reason, number }) => {
                    refused += 1;
                    assert!(!reason.is_empty() && number.is_finite(), "{case}: {reason} {number}");
                }
                Err(CodecError::Unsupported(_) | CodecError::MissingCalibration) => {}
                Err(error) => panic!("{case}: {error}"),
            }
        }
    }
    assert!(kept > 100 && refused > 10, "{kept} kept, {refused} refused");
}
