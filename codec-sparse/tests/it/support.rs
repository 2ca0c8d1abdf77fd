//! Sparse tensors and round trips for the tests of this crate.

use std::sync::Arc;

use codec_api::{
    Codec, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Payload, Registry, Section, TensorSpec, TensorView,
};
use codec_lossless as _;
use codec_quant as _;
use codec_sparse as _;

/// One codec for each form of positions, without children.
pub const FORMS: [&str; 8] = [
    "sparse.csr:index=u32",
    "sparse.csr:index=narrow",
    "sparse.csr:index=gap",
    "sparse.csr:index=coded",
    "sparse.coo",
    "sparse.bitmap",
    "sparse.nm:n=3:m=16",
    "sparse",
];

/// [`FORMS`], and the same with an inner codec of four bits.
pub fn exact_and_lossy() -> impl Iterator<Item = String> {
    FORMS.into_iter().flat_map(|spec| {
        let (id, keys) = spec.split_once(':').map_or((spec, String::new()), |(id, keys)| (id, format!(":{keys}")));
        [spec.to_owned(), format!("{id}(quant.int:bits=4){keys}")]
    })
}

pub fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().unwrap().parse_spec(spec).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

/// A well-mixed hash of an index (splitmix64).
pub fn noise(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether a seeded mask of this density has a value at `index`.
pub fn stored(index: usize, density: f64) -> bool {
    (noise(index as u64 ^ 0x5eed << 32) >> 11) as f64 / ((1u64 << 53) as f64) < density
}

/// Exactly `count` of these values, at seeded places; zeros elsewhere.
pub fn with_exactly(values: &[f32], count: usize) -> Vec<f32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by_key(|i| noise(*i as u64));
    let mut out = vec![0.0; values.len()];
    for i in &order[..count] {
        out[*i] = values[*i];
    }
    out
}

/// Encodes, serialises and reads back.
pub fn encoded(spec: &str, tensor: TensorView<'_>) -> Result<EncodedTensor, CodecError> {
    let encoded = EncodedTensor::encode(codec(spec), tensor, &EncodeCx::new(7))?;
    let file = encoded.to_bytes().unwrap();
    Ok(EncodedTensor::from_bytes(&file.into(), &Registry::linked().unwrap()).unwrap())
}

/// Encodes f32 values.
pub fn encoded_f32(spec: &str, shape: &[usize], values: &[f32]) -> EncodedTensor {
    encoded(spec, TensorView::from_f32(shape, values).unwrap()).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

/// Encodes stored bytes exactly, and checks that decoding restores them.
pub fn restored(spec: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> EncodedTensor {
    let tensor = TensorView::new(TensorSpec::new(dtype, shape).unwrap(), bytes).unwrap();
    let encoded = encoded(spec, tensor).unwrap_or_else(|e| panic!("{spec} on {dtype} {shape:?}: {e}"));
    let found = encoded.decode_bytes(&DecodeCx::new()).unwrap_or_else(|e| panic!("{spec} on {dtype} {shape:?}: {e}"));
    assert!(found == bytes, "{spec} on {dtype} {shape:?}: other bytes");
    encoded
}

/// Little-endian bytes of f32 values.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The bytes of a section.
pub fn section<'a>(encoded: &'a EncodedTensor, name: &str) -> &'a [u8] {
    encoded.payload.sections()[name].data()
}

/// The tensor with another section of this name.
pub fn with(encoded: &EncodedTensor, name: &str, section: Section) -> EncodedTensor {
    let others: Vec<_> = encoded.payload.sections().keys().filter(|other| *other != name).cloned().collect();
    let payload = encoded.payload.restricted_to(&others);
    let payload = match name.split_once('/') {
        Some((scope, name)) => payload.with_scope(scope, Payload::new().with(name, section).unwrap()),
        None => payload.with(name, section),
    };
    let mut other = encoded.clone();
    other.payload = payload.unwrap();
    other
}

/// Whether the payload has positions, not the whole tensor in the inner codec's form.
pub fn is_sparse(encoded: &EncodedTensor) -> bool {
    let dense = encoded.payload.sections().keys().filter(|name| name.starts_with("dense/")).count();
    assert!(dense == 0 || dense == encoded.payload.sections().len());
    dense == 0
}
