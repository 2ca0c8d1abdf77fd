//! A lower estimate of a payload's size, at a small part of the time that an encode takes.

use codec_api::{Dtype, TensorView};
use entropy::{STATE_BYTES, count, information, plane};

use super::{frame, palette, split::Split};

/// Bits of an exponent that contexts seldom go below, and the share of its entropy that any other
/// byte takes at least, given the byte above it.
const EXPONENT_BITS: f64 = 2.5;
const SHARE: f64 = 0.98;

/// Bytes that [`super::Exact`] will hardly go below; 0 if the tensor has few values or repetitions,
/// whose size only an encode shows. Another codec whose payload is smaller need not try `lossless`.
pub fn likely_least(tensor: &TensorView<'_>) -> u64 {
    let (dtype, bytes) = (tensor.spec().dtype(), tensor.bytes());
    let split = Split::of(dtype);
    let width = split.width();
    let elements = bytes.len() / width;
    if elements == 0 || palette::is_likely(bytes, width) || frame::repeats(bytes, width) {
        return 0;
    }
    let exponents = matches!(dtype, Dtype::F32 | Dtype::BF16);
    let of_plane = |(k, plane): (usize, &Vec<u8>)| {
        let plane = plane.get(1..).unwrap_or_default();
        let bits = information(&count(plane)) / plane.len().max(1) as f64;
        let bits = if k == 0 && exponents { bits.min(EXPONENT_BITS) } else { SHARE * bits };
        // A plane that is not constant has the states of a stream, or stays raw.
        let states = if bits > 0.0 { STATE_BYTES } else { 0 };
        (bits / 8.0 * elements as f64 + states as f64).min(elements as f64)
    };
    let planes: f64 = split.planes(&plane::sample(bytes, width)).iter().enumerate().map(of_plane).sum();
    planes.min(frame::least(bytes)) as u64
}
