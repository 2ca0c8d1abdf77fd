//! Entropy coding changes the size and nothing else.

use std::sync::Arc;

use codec_api::{Codec, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, Section, TensorView};
use codec_seedlm as _;
use harness::testing::{measure, weights};

fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().unwrap().parse_spec(spec).unwrap()
}

fn encoded(spec: &str, shape: &[usize], values: &[f32]) -> EncodedTensor {
    let tensor = TensorView::from_f32(shape, values).unwrap();
    EncodedTensor::encode(codec(spec), tensor, &EncodeCx::new(3)).unwrap()
}

/// Bits of the decoded weights up to a level.
fn decoded(encoded: &EncodedTensor, level: usize) -> Vec<u32> {
    let values = encoded.decode(&DecodeCx::new().with_level(level)).unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn coded_and_uncoded_payloads_decode_to_the_same_bits() {
    let gaussian = weights("gaussian", 8000);
    let mut outlier = gaussian.clone();
    outlier[77] = 3000.0;
    let zeros = vec![0.0; 8000];
    for spec in [
        "seedlm:search=40",
        "seedlm:k=8:c=4:p=4:mantissa_bits=6:per_octave=4",
        "seedlm:k=24:c=16:p=4:search=9",
        "seedlm:k=8:c=5:p=1:mantissa_bits=2:per_octave=1:refine=false",
        "seedlm:k=12:c=13:p=3:mantissa_bits=5:layers=4:search=20",
    ] {
        for values in [&gaussian[..], &outlier, &zeros, &gaussian[..301], &gaussian[..9], &[0.7], &[]] {
            let shape = [values.len()];
            let (plain, coded) =
                (encoded(spec, &shape, values), encoded(&format!("{spec}:coded=true"), &shape, values));
            let levels = coded.codec.as_progressive().unwrap().levels(&coded.spec);
            for level in 0..levels.len() {
                assert_eq!(decoded(&coded, level), decoded(&plain, level), "{spec}, {shape:?}, level {level}");
            }
            assert_eq!(coded.payload.bound(), plain.payload.bound());
            // Each of the three sections of a level pads its last byte.
            let most = plain.payload.bytes() + 2 * levels.len() as u64;
            assert!(coded.payload.bytes() <= most, "{spec}: {} bytes, {most} at most", coded.payload.bytes());
            assert!(*coded.codec.cost(&coded.spec).bytes.end() <= most, "{spec}");
        }
    }
}

#[test]
fn fields_shrink_to_about_their_entropy() {
    let values = weights("gaussian", 128 * 512);
    for (spec, most) in [
        ("seedlm:per_octave=1:refine=false:coded=true", 3.66),
        ("seedlm:preset=4bit-coded", 3.82),
        ("seedlm:preset=3bit:coded=true", 2.87),
        ("seedlm:preset=2bit:coded=true", 1.89),
    ] {
        let bits = measure(spec, &[128, 512], &values).bits_per_weight.unwrap();
        assert!(bits <= most, "{spec}: {bits} bits per weight");
    }
}

#[test]
fn damaged_sections_are_named() {
    let values = weights("gaussian", 8000);
    let encoded = encoded("seedlm:preset=4bit-coded:layers=2:search=20", &[8000], &values);
    let refused = |name: &str, data: Vec<u8>| {
        let mut damaged = encoded.clone();
        damaged.payload = damaged.payload.with(name, Section::new(Dtype::U8, [data.len()], data).unwrap());
        // Calls the codec directly, without the check of the payload's size.
        let answer =
            damaged.codec.decode(&damaged.spec, damaged.payload.view(), &DecodeCx::new(), &mut vec![0.0; 8000]);
        match answer {
            Err(CodecError::Corrupt { section, .. }) => assert_eq!(section, name),
            other => panic!("{name}: {other:?}"),
        }
    };
    for name in ["seeds", "exponents", "mantissas", "seeds_1", "exponents_1", "mantissas_1"] {
        let data = encoded.payload.sections()[name].data().to_vec();
        refused(name, data[1..].to_vec());
        refused(name, vec![]);
        refused(name, vec![1; 8001]);
        if !name.starts_with("seeds") {
            // A plane of sixteens, or of an unknown mode.
            refused(name, vec![0, 16]);
            refused(name, vec![9; 100]);
        }
    }
}

#[test]
fn headers_from_before_do_not_change() {
    let registry = Registry::linked().unwrap();
    let header = codec_api::header(&*codec("seedlm:coded=false")).unwrap();
    assert!(!header.contains("coded"), "{header}");
    let with = header.replace(r#""layers":1"#, r#""layers":1,"coded":true"#);
    assert_eq!(codec_api::header(&*registry.parse_header(&with).unwrap()).unwrap(), with);
    let wrong = registry.parse_spec("seedlm:coded=1").unwrap_err().to_string();
    assert!(wrong.contains("coded"), "{wrong}");
}
