//! Entropy coding changes the size and nothing else; the rows of both forms.

use std::sync::Arc;

use codec_api::{Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, Payload, Registry, Section, TensorView};
use codec_seedlm as _;
use harness::testing::{measure, weights};

fn codec(spec: &str) -> Arc<dyn Codec> {
    Registry::linked().unwrap().parse_spec(spec).unwrap()
}

fn encoded(spec: &str, shape: &[usize], values: &[f32]) -> EncodedTensor {
    let tensor = TensorView::from_f32(shape, values).unwrap();
    EncodedTensor::encode(codec(spec), tensor, &EncodeCx::new(3)).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Bits of the decoded weights up to a level.
fn decoded(encoded: &EncodedTensor, level: usize) -> Vec<u32> {
    bits(&encoded.decode_level(level, &DecodeCx::new()).unwrap())
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
            assert_eq!(coded.certificate, plain.certificate);
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

/// The payload with other bytes in one section.
fn replaced(payload: &Payload, name: &str, data: Vec<u8>) -> Payload {
    let others: Vec<String> = payload.sections().keys().filter(|other| *other != name).cloned().collect();
    payload.restricted_to(&others).with(name, Section::from_bytes(data).unwrap()).unwrap()
}

#[test]
fn damaged_sections_are_named() {
    let values = weights("gaussian", 8000);
    let encoded = encoded("seedlm:preset=4bit-coded:layers=2:search=20", &[8000], &values);
    let refused = |name: &str, data: Vec<u8>| {
        let mut damaged = encoded.clone();
        damaged.payload = replaced(&damaged.payload, name, data);
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
fn every_range_of_rows_is_part_of_the_whole() {
    let values = weights("gaussian", 230);
    for (spec, columns) in [
        ("seedlm:k=8:c=4:p=4:layers=2", 10),
        ("seedlm:k=8:c=13:p=3:coded=true:layers=3", 23),
        ("seedlm:k=12:c=12:p=2:search=20", 1),
        ("seedlm:k=24:c=16:p=4:search=20:coded=true", 5),
        ("seedlm:k=8:c=8:p=1", 230),
    ] {
        let rows = values.len() / columns;
        let encoded = encoded(spec, &[rows, columns], &values);
        let (whole, reader) = (encoded.decode(&DecodeCx::new()).unwrap(), encoded.open_rows(&DecodeCx::new()).unwrap());
        for (start, end) in (0..=rows).flat_map(|start| (start..=rows).map(move |end| (start, end))) {
            let mut part = vec![f32::NAN; (end - start) * columns];
            reader.read(start..end, &mut part).unwrap();
            assert_eq!(bits(&part), bits(&whole[start * columns..end * columns]), "{spec}, rows {start}..{end}");
        }
    }
}

#[test]
fn rows_share_the_codes_and_not_the_weights() {
    let values = weights("gaussian", 64 * 1024);
    let reader = |spec: &str, shape: &[usize]| encoded(spec, shape, &values).open_rows(&DecodeCx::new()).unwrap();
    // The words of the register take 8 KiB.
    assert!(reader("seedlm:search=1", &[64, 1024]).resident_bytes() < (values.len() / 2 + 9000) as u64);
    assert!(reader("seedlm:search=1:coded=true", &[64, 1024]).resident_bytes() < (3 * values.len() / 4 + 9000) as u64);
    let granule = |columns| reader("seedlm:search=1", &[values.len() / columns, columns]).granule().get();
    assert_eq!([1, 2, 4, 8, 1024].map(granule), [8, 4, 2, 1, 1]);
}

#[test]
fn a_level_that_is_not_there_is_wrong_use() {
    let encoded = encoded("seedlm:preset=progressive:search=20", &[20], &weights("gaussian", 20));
    let answer = encoded.decode_level(3, &DecodeCx::new()).unwrap_err();
    assert!(matches!(&answer, CodecError::Usage(reason) if reason.contains("0 to 2")), "{answer}");
    let wrong = Registry::linked().unwrap().parse_spec("seedlm:coded=1").unwrap_err().to_string();
    assert!(wrong.contains("coded"), "{wrong}");
}
