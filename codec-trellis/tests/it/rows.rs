//! Ranges of rows against the decode of all rows.

use std::ops::Range;

use codec_api::{
    Calibration, Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, InputAxis, Payload, RowReader, Section,
};
use codec_trellis::{States, Target, Trellis};
use harness::testing::weights;

use super::{assert_same_bits, decode, encode, replaced};

fn assert_ranges(encoded: &EncodedTensor, granule: usize, ranges: impl IntoIterator<Item = Range<usize>>) {
    let all = decode(encoded);
    let reader = encoded.open_rows(&DecodeCx::new()).unwrap();
    let (rows, columns) = reader.shape();
    assert_eq!(((rows, columns), reader.granule().get()), (encoded.spec.matrix(), granule));
    for range in ranges {
        let mut part = vec![f32::NAN; range.len() * columns];
        reader.read(range.clone(), &mut part).unwrap();
        let case = format!("{range:?} of {}, {:?}", encoded.spec, encoded.codec);
        assert_same_bits(&part, &all[range.start * columns..range.end * columns], &case);
    }
    for range in [rows..rows + 1, usize::MAX - 1..usize::MAX, 0..2] {
        let answer = reader.read(range.clone(), &mut vec![0.0; columns]);
        assert!(matches!(answer, Err(CodecError::Usage(_))), "{range:?}: {answer:?}");
    }
}

/// Every range of up to this many rows.
fn every(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..=rows).flat_map(move |start| (start..=rows).map(move |end| start..end))
}

#[test]
fn rows_of_segments_decode_alone() {
    // The rows of a segment are those of the documentation, or fewer than one.
    for (shape, rows, granule) in
        [(&[700, 1000][..], 700, 234), (&[3, 300_000], 3, 1), (&[5000, 128], 5000, 1667), (&[4, 900, 128], 3600, 1800)]
    {
        let values = weights("gaussian:2048x2048", shape.iter().product());
        let encoded = encode("trellis:step=0.3", shape, &values, &EncodeCx::new(0));
        let ranges = [0..1, rows / 2..rows / 2 + 2, rows - 1..rows, 1..rows, 2..2, rows..rows, 0..rows];
        assert_ranges(&encoded, granule, ranges);
    }
}

#[test]
fn every_section_serves_rows() {
    let (rows, columns) = (300, 1000);
    let squares = |n: usize| (0..n).map(|i| if i % 4 == 0 { 16.0 } else { 1.0 }).collect::<Vec<f32>>();
    // Scales of rows and columns, an exponent, low bits and escapes.
    let mut values: Vec<f32> = weights("scale-mixed", rows * columns).iter().map(|w| w * 1e-30).collect();
    values[123_456] = 1e-28;
    for (axis, inputs) in [(InputAxis::Rows, rows), (InputAxis::Columns, columns)] {
        let squares = squares(inputs);
        let cx = EncodeCx::new(0).with_calibration(Calibration::new(axis, &squares));
        let encoded = encode("trellis:bits=9", &[rows, columns], &values, &cx);
        let has = |name: &str| encoded.payload.sections().contains_key(name);
        let of_inputs = if axis == InputAxis::Rows { "input_rows" } else { "input_columns" };
        for name in ["rows", "exponent", "low", "escapes", "lengths", of_inputs] {
            assert!(has(name), "no section `{name}`");
        }
        assert_ranges(&encoded, 150, [0..1, 1..2, 123..124, 149..151, 299..300, 0..300]);
    }
}

#[test]
fn rows_of_stored_tensors() {
    let values: Vec<f32> = (0..40).map(|i| (i as f32).exp2()).collect();
    let encoded = encode("trellis:step=1e-30", &[5, 8], &values, &EncodeCx::new(0));
    assert!(encoded.payload.sections().contains_key("data"));
    assert_ranges(&encoded, 1, every(5));
}

#[test]
fn rows_of_bitshift_spans() {
    for (rows, columns, granule) in [(1, 1, 256), (9, 77, 4), (11, 100, 3), (5, 256, 1), (4, 700, 1)] {
        for bits in 1..=4 {
            let spec = format!("trellis.bitshift:bits={bits}:state_bits=10");
            let encoded = encode(&spec, &[rows, columns], &weights("gaussian", rows * columns), &EncodeCx::new(0));
            assert_ranges(&encoded, granule, every(rows));
        }
    }
}

#[test]
fn damage_names_its_section() {
    let codec = Trellis::new(States::FAST, Target::Step(0.3));
    let encoded = encode("trellis:step=0.3", &[64, 64], &weights("gaussian", 4096), &EncodeCx::new(0));
    let mut streams = encoded.payload.sections()["streams"].data().to_vec();
    streams.extend([0, 0]);
    let damaged = replaced(&encoded.payload, "streams", &Section::from_bytes(streams).unwrap());
    let outer = Payload::new().with_scope("inner", damaged).unwrap();
    let open = || codec.as_rows().unwrap().open(&encoded.spec, outer.view().scoped("inner"), &DecodeCx::new());
    let reader: Box<dyn RowReader> = open().unwrap();
    let answer = reader.read(63..64, &mut [0.0; 64]);
    assert!(matches!(&answer, Err(CodecError::Corrupt { section, .. }) if section == "inner/streams"), "{answer:?}");
}
