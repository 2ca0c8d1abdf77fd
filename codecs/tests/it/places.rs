//! Stored bytes at any address: floats that are aligned are decoded where they shall be.

use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Registry, TensorView};
use codecs as _;

const SHAPE: [usize; 2] = [64, 96];

#[test]
fn tensors_decode_to_the_same_bytes_at_any_address() {
    let registry = Registry::linked().unwrap();
    let weight = |i: usize| ((i * 7919 % 1009) as f32 - 504.0) / 100.0;
    let weights: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(weight).collect();
    let tensor = TensorView::from_f32(SHAPE, &weights).unwrap();
    let mut decoded = 0;
    for (entry, preset, codec) in registry.presets().filter(|(entry, ..)| !entry.slow_presets) {
        let Ok(encoded) = EncodedTensor::encode(codec, tensor.clone(), &EncodeCx::new(0)) else { continue };
        let values = encoded.decode(&DecodeCx::new()).unwrap();
        let expected: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut place = vec![0; expected.len() + 5];
        let aligned = place.as_ptr().align_offset(4);
        for first in [aligned, aligned + 1] {
            let out = &mut place[first..first + expected.len()];
            encoded.decode_stored(&DecodeCx::new(), out).unwrap();
            assert!(out == expected, "{} {preset} at {first}", entry.id);
        }
        decoded += 1;
    }
    assert!(decoded > 50, "{decoded}");
}
