//! Exact round trips of `delta.exact` at the ends of the number formats.

use codec_api::{BaseTensor, DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
use proptest::prelude::*;

use crate::ends::{bytes, tensors};
use crate::support::codec;

proptest! {
    #[test]
    fn every_bit_comes_back_from_any_base(
        (spec, stored) in tensors(), kind in 0u8..7, seed in any::<u64>()
    ) {
        // The tensor itself, the tensor with one changed byte, or a base of any kind.
        let mut base = if kind < 5 { bytes(&spec, kind, seed) } else { stored.clone() };
        if let (6, Some(byte)) = (kind, base.first_mut()) {
            *byte ^= 0x80;
        }
        let base = BaseTensor::new(TensorView::new(spec.clone(), &base).unwrap());
        let tensor = TensorView::new(spec.clone(), &stored).unwrap();
        let cx = EncodeCx::new(0).with_base(base.clone());
        let file = EncodedTensor::encode(codec("delta.exact"), tensor, &cx).unwrap().to_bytes().unwrap();
        let read = EncodedTensor::from_bytes(&file.into(), &Registry::linked().unwrap()).unwrap();
        let decoded = read.decode_bytes(&DecodeCx::new().with_base(base)).unwrap();
        prop_assert!(decoded == stored, "{spec}, base of kind {kind}");
    }
}
