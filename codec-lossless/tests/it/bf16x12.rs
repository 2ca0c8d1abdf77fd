//! `lossless.bf16x12`.

use codec_api::{
    Codec, CodecError, DecodeCx, Dtype, EncodeCx, Inputs, LinearOp, Lossless, Payload, Product, Result, RowReader,
    Rows, RowsLinear, Section, TensorSpec, TensorView,
};
use codec_lossless::Bf16x12;
use half::bf16;

use crate::replaced;

/// Rows of one column, so that a range of rows is any range of elements.
fn spec(elements: usize) -> TensorSpec {
    TensorSpec::new(Dtype::BF16, [elements, 1]).unwrap()
}

fn stored(elements: &[u16]) -> Vec<u8> {
    elements.iter().flat_map(|bits| bits.to_le_bytes()).collect()
}

fn encode(elements: &[u16]) -> Payload {
    let bytes = stored(elements);
    let tensor = TensorView::new(spec(elements.len()), &bytes).unwrap();
    Bf16x12::default().encode(tensor, &EncodeCx::new(0)).unwrap()
}

fn decode(elements: usize, payload: &Payload) -> Result<Vec<u8>> {
    let mut out = vec![0; 2 * elements];
    Bf16x12::default().decode_bytes(&spec(elements), payload.view(), &DecodeCx::new(), &mut out)?;
    Ok(out)
}

/// Weights of four octaves; elements selected by `special` have random bits.
fn weights(n: usize, special: impl Fn(usize) -> bool) -> Vec<u16> {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as u16
    };
    let weight = |bits: u16| bits & 0x81ff | 0x3d00;
    (0..n).map(|i| if special(i) { random() } else { weight(random()) }).collect()
}

fn escapes(payload: &Payload) -> usize {
    payload.sections()["escapes"].data().len()
}

#[test]
fn every_bit_pattern_comes_back_at_every_level() {
    let patterns: Vec<u16> = (0..=u16::MAX).collect();
    // All exponents are equally frequent, so no palette pays.
    assert!(encode(&patterns).view().has("data"));
    // With enough other weights a palette pays.
    let mostly_weights = [weights(1 << 17, |_| false), patterns.clone()].concat();
    let constants = [0u16, 0x8000, 0x7f80, 0xffff, 0x0001].map(|bits| vec![bits; 3001]);
    let lengths = [0, 1, 2, 15, 16, 17, 1023, 1024, 1025].map(|n| weights(n, |i| i % 9 == 2));
    for elements in [vec![patterns, mostly_weights.clone()], constants.to_vec(), lengths.to_vec()].concat() {
        for level in simd::Level::available() {
            simd::with_level(level, || {
                let payload = encode(&elements);
                let decoded = decode(elements.len(), &payload).unwrap();
                assert!(decoded == stored(&elements), "{} elements at {level}", elements.len());
            });
        }
    }
    // Fourteen or fifteen of the patterns' exponents have an index.
    assert!((240 * 256..=242 * 256).contains(&escapes(&encode(&mostly_weights))));
}

#[test]
fn twelve_bits_and_little_more() {
    let n = 1 << 18;
    let uniform = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let bell = |i: u64| (0..4).map(|k| uniform(4 * i + k)).sum::<f32>();
    let elements: Vec<u16> = (0..n as u64).map(|i| bf16::from_f32(0.02 * bell(i)).to_bits()).collect();
    let payload = encode(&elements);
    assert!(escapes(&payload) < n / 2000, "{} escapes", escapes(&payload));
    let bits = 8.0 * payload.bytes() as f64 / n as f64;
    assert!((12.03..12.04).contains(&bits), "{bits} bits per weight");
    // A single exponent gives the smallest payload.
    let least = encode(&vec![0x3f80; n]).bytes();
    assert_eq!(*Bf16x12::default().cost(&spec(n)).bytes.start(), least);
}

fn open(elements: usize, payload: &Payload) -> Result<Box<dyn RowReader>> {
    Bf16x12::default().open(&spec(elements), payload.view(), &DecodeCx::new())
}

#[test]
fn any_range_is_what_the_whole_says() {
    for elements in [weights(9001, |i| i % 7 == 3), weights(5001, |i| i % 2 == 0), weights(2048, |i| i % 1024 == 1023)]
    {
        let (bytes, reader) = (stored(&elements), open(elements.len(), &encode(&elements)).unwrap());
        let wide = TensorView::new(spec(elements.len()), &bytes).unwrap().to_f32().unwrap();
        let places = [0, 1, 2, 15, 16, 17, 31, 1000, 1023, 1024, 1025, 1040, 2047, 2048, 3333, 4096, 4999, 5000, 9001];
        let inside = || places.into_iter().filter(|place| *place <= elements.len());
        for (first, end) in inside().flat_map(|first| inside().map(move |end| (first, end))) {
            let mut out = vec![0.0; end.saturating_sub(first)];
            let answer = reader.read(first..end, &mut out);
            if first > end {
                assert!(matches!(answer, Err(CodecError::Usage(_))), "{answer:?}");
                continue;
            }
            answer.unwrap();
            let same = out.iter().zip(&wide[first..end]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "elements {first}..{end}");
        }
        for (rows, len) in [(elements.len()..elements.len() + 1, 1), (0..elements.len(), elements.len() + 1)] {
            assert!(matches!(reader.read(rows, &mut vec![0.0; len]), Err(CodecError::Usage(_))));
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    // An odd number of elements; fewer than fifteen exponents; escapes; a block without escapes;
    // the raw form.
    for elements in [
        weights(1301, |i| (3..40).contains(&i)),
        weights(151, |_| false),
        vec![0; 77],
        weights(64, |_| true),
        weights(1, |_| true),
    ] {
        let payload = encode(&elements);
        for (name, section) in payload.sections() {
            for bit in 0..8 * section.data().len() {
                let mut data = section.data().to_vec();
                data[bit / 8] ^= 1 << (bit % 8);
                let flipped = Section::new(section.spec().dtype(), section.spec().shape(), data).unwrap();
                let answer = decode(elements.len(), &replaced(&payload, name, flipped));
                assert!(matches!(answer, Err(CodecError::Corrupt { .. })), "bit {bit} of `{name}`: {answer:?}");
            }
        }
    }
}

#[test]
fn miscounted_escapes_are_found() {
    let elements = weights(4096, |i| i % 100 == 50);
    let payload = encode(&elements);
    let counts: Vec<u32> = payload.view().values("escapes_before", Dtype::U32, &[4]).unwrap();
    for (block, count) in [(1, counts[1] + 1), (1, counts[1] - 1), (1, u32::MAX), (1, counts[2] + 1)] {
        let mut counts = counts.clone();
        counts[block] = count;
        let section = Section::from_values(Dtype::U32, [4], counts).unwrap();
        let answer = decode(elements.len(), &replaced(&payload, "escapes_before", section)).map(drop);
        let Err(CodecError::Corrupt { section, .. }) = answer else { panic!("{block} {count}: {answer:?}") };
        assert_eq!(section, "escapes_before");
    }
}

#[test]
fn other_dtypes_are_refused_by_name() {
    let spec = TensorSpec::new(Dtype::F16, [4, 4]).unwrap();
    let Err(CodecError::Unsupported(reason)) = Bf16x12::default().accepts(&spec) else { panic!("it is accepted") };
    assert!(reason.contains("F16") && reason.contains("BF16"), "{reason}");
}

#[test]
fn products_have_the_bits_of_those_with_decoded_rows() {
    for (rows, columns) in [(3, 2), (5, 64), (7, 62), (9, 210), (2, 3072), (6, 37), (1, 16)] {
        let elements = weights(rows * columns, |i| i % 131 == 7 || i + 1 == rows * columns);
        let (bytes, spec) = (stored(&elements), TensorSpec::new(Dtype::BF16, [rows, columns]).unwrap());
        let codec = Bf16x12::default();
        let payload = codec.encode(TensorView::new(spec.clone(), &bytes).unwrap(), &EncodeCx::new(0)).unwrap();
        let own = codec.as_linear().unwrap().prepare(&spec, payload.view(), &DecodeCx::new()).unwrap();
        let generic = RowsLinear::new(codec.open(&spec, payload.view(), &DecodeCx::new()).unwrap());
        let x: Vec<f32> = (0..columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        for part in [0..rows, rows / 2..rows, 0..0] {
            let product = |operator: &dyn LinearOp| {
                let mut y = vec![0.0; part.len()];
                operator.apply(Product::Forward, part.clone(), &Inputs::new(&x, 1).unwrap(), &mut y).unwrap();
                y.iter().map(|y| y.to_bits()).collect::<Vec<_>>()
            };
            let expected = product(&generic);
            for level in simd::Level::available() {
                simd::with_level(level, || assert_eq!(product(&*own), expected, "{rows} x {columns}, {level}"));
            }
        }
    }
}
