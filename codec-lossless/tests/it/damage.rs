//! Payloads of small tensors with every bit flipped, and every section cut and grown.

use std::sync::Arc;

use codec_api::{CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Section, TensorSpec, TensorView};
use codec_lossless::{Exact, Level};
use half::bf16;

use crate::replaced;

/// A small tensor, and a section that its payload must have.
struct Case {
    spec: TensorSpec,
    bytes: Vec<u8>,
    section: &'static str,
}

/// Deterministic bell-shaped numbers between −6 and 6.
fn bell(i: usize) -> f32 {
    let mixed =
        |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (0..12).map(|k| (mixed(12 * i as u64 + k) >> 40) as f32 / (1 << 24) as f32 - 0.5).sum()
}

fn case(section: &'static str, dtype: Dtype, shape: [usize; 2], value: impl Fn(usize) -> f32) -> Case {
    let spec = TensorSpec::new(dtype, shape).unwrap();
    let stored = |i| match dtype {
        Dtype::BF16 => bf16::from_f32(value(i)).to_le_bytes().to_vec(),
        _ => value(i).to_le_bytes().to_vec(),
    };
    Case { bytes: (0..spec.elements()).flat_map(stored).collect(), spec, section }
}

fn cases() -> Vec<Case> {
    // Rows and columns with scales that differ by many octaves.
    let scale = |i: usize| ((i / 40 % 7) as f32 * 2.0 - (i % 40 / 4) as f32).exp2();
    vec![
        case("plane1", Dtype::BF16, [20, 32], bell),
        case("rows", Dtype::BF16, [50, 40], move |i| scale(i) * bell(i)),
        // The first bits of the mantissa follow from the exponent.
        case("plane1", Dtype::BF16, [1, 1500], |i| {
            let (octave, rest) = ((3.0 * bell(i)).round(), bell(i + 2000).to_bits() & 15);
            (octave.exp2() * (1.0 + octave.abs() % 8.0 / 8.0 + rest as f32 / 128.0)).copysign(bell(i + 5000))
        }),
        case("plane3", Dtype::F32, [12, 40], |i| bf16::from_f32(bell(i)).to_f32()),
        case("frame", Dtype::F32, [8, 64], |i| bell(i % 50)),
        case("data", Dtype::F32, [6, 7], |i| f32::from_bits(bell(i).to_bits().wrapping_mul(0x9e37_79b9))),
        case("plane0", Dtype::F32, [16, 16], |_| 0.1),
    ]
}

fn encoded(case: &Case, level: Level) -> EncodedTensor {
    let tensor = TensorView::new(case.spec.clone(), &case.bytes).unwrap();
    let encoded = EncodedTensor::encode(Arc::new(Exact::new(level)), tensor, &EncodeCx::new(0)).unwrap();
    let sections = encoded.payload.sections();
    assert!(sections.contains_key(case.section), "{} at {level:?}: {:?}", case.section, sections.keys());
    encoded
}

/// Decodes the tensor with the section of this name replaced.
fn decoded(
    encoded: &EncodedTensor,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
    data: Vec<u8>,
) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![0xa5; encoded.spec.byte_len()];
    let payload = replaced(&encoded.payload, name, Section::new(dtype, shape, data)?);
    encoded.codec.require_lossless()?.decode_bytes(&encoded.spec, payload.view(), &DecodeCx::new(), &mut out)?;
    Ok(out)
}

#[test]
fn every_flipped_bit_is_an_error() {
    let mut modes = [false; 5];
    for (case, level) in cases().iter().flat_map(|case| [(case, Level::Fast), (case, Level::Max)]) {
        let encoded = encoded(case, level);
        for (name, section) in encoded.payload.sections() {
            let (spec, data) = (section.spec(), section.data());
            if name.starts_with("plane") {
                modes[usize::from(data[0])] = true;
            }
            for bit in 0..8 * data.len() {
                let mut flipped = data.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let decoded = decoded(&encoded, name, spec.dtype(), spec.shape(), flipped);
                assert!(decoded.is_err(), "{} at {level:?}: bit {bit} of {name}", case.section);
            }
        }
    }
    assert_eq!(modes, [true; 5], "planes of every mode");
}

#[test]
fn every_section_has_its_own_length() {
    for (case, level) in cases().iter().flat_map(|case| [(case, Level::Fast), (case, Level::Max)]) {
        let encoded = encoded(case, level);
        for (name, section) in encoded.payload.sections() {
            let data = section.data();
            for data in [data[..data.len() - 1].to_vec(), [data, &[0][..]].concat()] {
                let length = data.len();
                let refused = decoded(&encoded, name, Dtype::U8, &[length], data);
                assert!(refused.is_err(), "{} at {level:?}: {length} bytes of {name}", case.section);
            }
        }
    }
}
