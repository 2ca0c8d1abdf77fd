//! Tensors with a base, and round trips.

use std::sync::Arc;

use codec_api::{
    BaseTensor, Certificate, Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, Registry, Section, TensorView,
};
use codec_delta as _;
use codec_lossless as _;
use codec_lowrank as _;
use codec_quant as _;
use codec_sparse as _;
use harness::testing::weights;

pub fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().unwrap().parse_spec(spec).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

/// Gaussian weights and a base. The difference between them is Gaussian too, with this share of the
/// weights' size.
pub fn fine_tuned(n: usize, share: f32) -> (Vec<f32>, Vec<f32>) {
    let all = weights("gaussian", 2 * n);
    let (base, change) = all.split_at(n);
    (base.iter().zip(change).map(|(b, d)| b + share * d).collect(), base.to_vec())
}

/// Encodes, serialises and reads back.
pub fn encoded(spec: &str, shape: &[usize], values: &[f32], base: &[f32]) -> Result<EncodedTensor, CodecError> {
    let [tensor, base] = [values, base].map(|values| TensorView::from_f32(shape, values).unwrap());
    let cx = EncodeCx::new(7).with_base(BaseTensor::new(base));
    let file = EncodedTensor::encode(codec(spec), tensor, &cx)?.to_bytes().unwrap();
    Ok(EncodedTensor::from_bytes(&file.into(), &Registry::linked().unwrap()).unwrap())
}

pub fn decoded(encoded: &EncodedTensor, base: &[f32]) -> Result<Vec<f32>, CodecError> {
    let base = TensorView::from_f32(encoded.spec.shape(), base)?;
    encoded.decode(&DecodeCx::new().with_base(BaseTensor::new(base)))
}

/// A round trip, with a check of the certificate.
pub fn round_trip(spec: &str, shape: &[usize], values: &[f32], base: &[f32]) -> (EncodedTensor, Vec<f32>) {
    let encoded = encoded(spec, shape, values, base).unwrap_or_else(|e| panic!("{spec}: {e}"));
    let decoded = decoded(&encoded, base).unwrap_or_else(|e| panic!("{spec}: {e}"));
    let (found, wanted) = (encoded.certificate, Certificate::measure(values, &decoded));
    let near = |a: f64, b: f64| (a - b).abs() <= codec_api::Certificate::TOLERANCE * b;
    assert!(found.max_abs == wanted.max_abs && near(found.nmse(), wanted.nmse()), "{spec}: {found:?}");
    (encoded, decoded)
}

/// The relative error of the difference from the base.
pub fn delta_error(values: &[f32], decoded: &[f32], base: &[f32]) -> f64 {
    let [wanted, found] = [values, decoded].map(|w| w.iter().zip(base).map(|(w, b)| w - b).collect::<Vec<f32>>());
    relative_error(&wanted, &found)
}

/// The relative error in the Frobenius norm.
pub fn relative_error(values: &[f32], decoded: &[f32]) -> f64 {
    Certificate::measure(values, decoded).rel_frobenius()
}

/// The tensor with another section of this name.
pub fn with(encoded: &EncodedTensor, name: &str, section: Section) -> EncodedTensor {
    let others: Vec<_> = encoded.payload.sections().keys().filter(|other| *other != name).cloned().collect();
    let mut other = encoded.clone();
    other.payload = encoded.payload.restricted_to(&others).with(name, section).unwrap();
    other
}
