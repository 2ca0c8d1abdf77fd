//! `trellis`: distance from the bound, accuracy of the target, a decoder written from its
//! documentation, odd tensors, ranges of rows, and chunks; and `trellis.bitshift`.
#![allow(clippy::unwrap_used, reason = "test helpers may")]

mod bitshift;
mod chunks;
mod columns;
mod conformance;
mod extremes;
mod odd;
mod quality;
mod reference;
mod rows;

use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Payload, Registry, Section, TensorView};
use codec_trellis as _;

/// Encodes an F32 tensor with the codec of this spec.
pub(crate) fn encode(spec: &str, shape: &[usize], values: &[f32], cx: &EncodeCx<'_>) -> EncodedTensor {
    let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
    EncodedTensor::encode(codec, TensorView::from_f32(shape, values).unwrap(), cx).unwrap()
}

/// Decodes all weights.
pub(crate) fn decode(encoded: &EncodedTensor) -> Vec<f32> {
    encoded.decode(&DecodeCx::new()).unwrap()
}

/// The payload with another section in place of the one of this name.
pub(crate) fn replaced(payload: &Payload, name: &str, section: &Section) -> Payload {
    payload.sections().iter().fold(Payload::new(), |new, (other, old)| {
        new.with(other, if other == name { section.clone() } else { old.clone() }).unwrap()
    })
}

/// `‖w − ŵ‖²/‖w‖²`.
pub(crate) fn nmse(source: &[f32], decoded: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = source.iter().zip(decoded).map(|(w, v)| square(f64::from(*w) - f64::from(*v))).sum();
    error / source.iter().map(|w| square(f64::from(*w))).sum::<f64>()
}

/// Asserts equal bits, weight by weight.
pub(crate) fn assert_same_bits(found: &[f32], expected: &[f32], case: &str) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let other = found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    assert!(other.is_none(), "{case}: weight {other:?} is another");
}

// Unit tests beside private code are compiled here: a test target of the library itself would
// compile all of its kernels once more.
#[allow(dead_code, reason = "only its tests run here")]
#[path = "../../src/bitshift"]
mod bitshift_units {
    mod code;
    mod scale;
    mod trellis;
}
#[allow(dead_code, reason = "only its tests run here")]
#[path = "../../src/coded"]
mod coded {
    mod escapes;
    mod machine;
    mod secant;
}
