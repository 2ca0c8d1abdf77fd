//! Exact round trips at the ends of the number formats.

use std::sync::Arc;

use codec_api::{DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, TensorView};
use codec_lossless as _;
use proptest::prelude::*;
use proptest::sample::select;

use crate::ends::tensors;

const SPECS: [&str; 7] = [
    "lossless:level=fast",
    "lossless:level=max",
    "lossless.raw",
    "lossless.zstd:level=1",
    "lossless.zstd:level=3",
    "lossless.zstd:level=19",
    "lossless.bf16x12",
];

proptest! {
    #[test]
    fn every_bit_comes_back_at_any_setting((spec, bytes) in tensors(), codec in select(SPECS.to_vec())) {
        prop_assume!(codec != "lossless.bf16x12" || spec.dtype() == Dtype::BF16);
        let registry = Registry::linked().unwrap();
        let tensor = TensorView::new(spec.clone(), &bytes).unwrap();
        let encoded = EncodedTensor::encode(Arc::clone(&registry.parse_spec(codec).unwrap()), tensor, &EncodeCx::new(0));
        let file = encoded.unwrap().to_bytes().unwrap();
        let read = EncodedTensor::from_bytes(&file.into(), &registry).unwrap();
        prop_assert!(read.decode_bytes(&DecodeCx::new()).unwrap() == bytes, "{codec}, {spec}");
    }
}
