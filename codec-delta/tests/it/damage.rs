//! Payloads of `delta.exact` with every bit flipped, and every section cut and grown.

use codec_api::{CodecError, Dtype, EncodedTensor, Section};

use crate::exact::{decode, encode, forms};
use crate::support::with;

fn decoded(
    encoded: &EncodedTensor,
    base: &[u8],
    name: &str,
    section: Result<Section, CodecError>,
) -> Result<Vec<u8>, CodecError> {
    decode(&with(encoded, name, section?), Some(base))
}

#[test]
fn every_flipped_bit_is_an_error() {
    for ((spec, bytes, base), form) in forms().into_iter().zip(["raw", "gaps"]) {
        let encoded = encode(&spec, &bytes, Some(&base));
        assert!(["base", "symbols", form].iter().all(|name| encoded.payload.sections().contains_key(*name)), "{form}");
        for (name, section) in encoded.payload.sections() {
            for bit in 0..8 * section.data().len() {
                let mut data = section.data().to_vec();
                data[bit / 8] ^= 1 << (bit % 8);
                let flipped = Section::new(section.spec().dtype(), section.spec().shape(), data);
                let decoded = decoded(&encoded, &base, name, flipped);
                if let Ok(decoded) = decoded {
                    panic!("bit {bit} of {name} in the form of {form}: same {}", decoded == bytes);
                }
            }
        }
    }
}

#[test]
fn every_section_has_its_own_length() {
    for (spec, bytes, base) in forms() {
        let encoded = encode(&spec, &bytes, Some(&base));
        for (name, section) in encoded.payload.sections() {
            let data = section.data();
            for data in [data[..data.len() - 1].to_vec(), [data, &[0][..]].concat()] {
                let length = data.len();
                let other = Section::new(Dtype::U8, [length], data);
                assert!(decoded(&encoded, &base, name, other).is_err(), "{length} bytes of {name}");
            }
        }
    }
}
