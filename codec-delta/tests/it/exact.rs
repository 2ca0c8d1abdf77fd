//! `delta.exact`: payload sizes of differences, and exact round trips.

use codec_api::{BaseTensor, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, TensorSpec, TensorView};
use harness::suite::{Item, Suite, SuiteOptions};
use laws::strategies;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::codec;

/// Dtypes that have a difference form.
const FLOATS: [Dtype; 6] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F8_E4M3, Dtype::F8_E5M2];

fn base_of<'a>(spec: &TensorSpec, base: &'a [u8]) -> BaseTensor<'a> {
    BaseTensor::new(TensorView::new(spec.clone(), base).unwrap())
}

pub fn encode(spec: &TensorSpec, bytes: &[u8], base: Option<&[u8]>) -> EncodedTensor {
    let mut cx = EncodeCx::new(7);
    cx.base = base.map(|base| base_of(spec, base));
    EncodedTensor::encode(codec("delta.exact"), TensorView::new(spec.clone(), bytes).unwrap(), &cx).unwrap()
}

pub fn decode(encoded: &EncodedTensor, base: Option<&[u8]>) -> Result<Vec<u8>, CodecError> {
    let mut cx = DecodeCx::new();
    cx.base = base.map(|base| base_of(&encoded.spec, base));
    encoded.decode_bytes(&cx)
}

/// Encodes a tensor with its base, and checks the round trip.
fn encoded(spec: &TensorSpec, bytes: &[u8], base: &[u8]) -> EncodedTensor {
    let encoded = encode(spec, bytes, Some(base));
    assert!(decode(&encoded, Some(base)).unwrap() == bytes, "{spec}");
    encoded
}

/// The tensor of a suite with a base, encoded.
fn tuned(suite: &str) -> (Item, EncodedTensor) {
    let item = Suite::parse(suite, &SuiteOptions::default()).unwrap().items.remove(0);
    let encoded = encoded(&item.spec, &item.data, item.base.as_ref().unwrap());
    (item, encoded)
}

#[test]
fn small_changes_take_few_bytes() {
    for (suite, least) in [
        ("delta/gaussian:r=0.001:2048x2048:bf16", 15.0),
        ("delta/gaussian:r=0.01:2048x2048:bf16", 4.0),
        ("delta/gaussian:r=0.001:2048x2048:f32", 1.9),
    ] {
        let (item, encoded) = tuned(suite);
        let ratio = item.data.len() as f64 / encoded.payload.bytes() as f64;
        assert!(ratio >= least, "{suite}: {ratio}");
    }
}

#[test]
fn changed_weights_take_what_theory_says() {
    for p in [0.01, 0.05, 0.2] {
        let (item, encoded) = tuned(&format!("delta/changed:p={p}"));
        let bits = 8.0 * encoded.payload.bytes() as f64 / item.spec.elements() as f64;
        // The entropy of the positions, and a sign for each change.
        let theory = -p * libm::log2(p) - (1.0 - p) * libm::log2(1.0 - p) + p;
        assert!(bits <= 1.04 * theory, "p={p}: {bits} bits of {theory}");
    }
}

#[test]
fn next_to_nothing_takes_next_to_nothing() {
    let (_, few) = tuned("delta/changed:p=0.00001");
    assert!(few.payload.sections().contains_key("gaps"));
    assert!(few.payload.bytes() < 1000, "{} bytes", few.payload.bytes());
    let (_, none) = tuned("delta/changed:p=0");
    assert!(none.payload.bytes() <= 100, "{} bytes", none.payload.bytes());
    for dtype in [Dtype::I8, Dtype::U16, Dtype::I64, Dtype::BOOL] {
        let spec = TensorSpec::new(dtype, [31, 40]).unwrap();
        let bytes: Vec<u8> = (0..spec.byte_len()).map(|i| (i * i / 7) as u8).collect();
        let copy = encoded(&spec, &bytes, &bytes);
        assert!(copy.payload.bytes() < 100, "{spec}: {} bytes", copy.payload.bytes());
    }
}

/// A tensor of random bits, with a base of random bits or equal to the tensor except for some
/// bytes.
fn tensor_and_base() -> impl Strategy<Value = (TensorSpec, Vec<u8>, Vec<u8>)> {
    let spec = (select(&FLOATS[..]), strategies::shape());
    let spec = spec.prop_filter_map("every shape has a spec", |(dtype, shape)| TensorSpec::new(dtype, shape).ok());
    let byte = || prop_oneof![3 => any::<u8>(), 1 => select(vec![0, 0x7f, 0x80, 0xff])];
    spec.prop_flat_map(move |spec| {
        let n = spec.byte_len();
        (Just(spec), vec(byte(), n), vec(byte(), n), vec(any::<(prop::sample::Index, u8)>(), 0..5), any::<bool>())
    })
    .prop_map(|(spec, bytes, other, changes, near)| {
        let mut base = if near { bytes.clone() } else { other };
        for (at, byte) in changes.iter().filter(|_| near && !bytes.is_empty()) {
            base[at.index(bytes.len())] = *byte;
        }
        (spec, bytes, base)
    })
}

#[test]
fn any_bits_come_back_from_any_base() {
    strategies::runner()
        .run(&tensor_and_base(), |(spec, bytes, base)| {
            let encoded = encode(&spec, &bytes, Some(&base));
            prop_assert!(decode(&encoded, Some(&base)).unwrap() == bytes, "{spec}");
            Ok(())
        })
        .unwrap();
}

/// BF16 patterns without special meaning as the base, and the same with some changed by a few
/// steps.
fn close(elements: usize, every: usize) -> (TensorSpec, Vec<u8>, Vec<u8>) {
    let spec = TensorSpec::new(Dtype::BF16, [elements]).unwrap();
    let word = |i: usize| (0x3c00 + (i * 40_503 % 1021)) as u16 | ((i * 29) as u16 & 0x40) << 9;
    let base = (0..elements).flat_map(|i| word(i).to_le_bytes()).collect();
    let change = |i: usize| if i % every == every / 2 { (i % 37) as u16 + 1 } else { 0 };
    (spec, (0..elements).flat_map(|i| (word(i) + change(i)).to_le_bytes()).collect(), base)
}

/// One case for the dense form and one for the form with gaps.
pub fn forms() -> [(TensorSpec, Vec<u8>, Vec<u8>); 2] {
    [close(700, 3), close(3000, 900)]
}

#[test]
fn the_base_that_is_named_is_asked_for() {
    for (spec, bytes, base) in forms() {
        let encoded = encoded(&spec, &bytes, &base);
        let named = base_of(&spec, &base).id.map(|byte| format!("{byte:02x}")).concat();
        for other in [None, Some(&bytes[..])] {
            let refused = decode(&encoded, other).unwrap_err();
            assert!(matches!(refused, CodecError::MissingBase { .. }), "{refused}");
            assert!(refused.to_string().contains(&format!("blake3 {named}")), "{refused}");
        }
    }
}

#[test]
fn without_a_base_it_is_the_codec_alone() {
    let (spec, bytes, _) = close(1500, 2);
    let tensor = || TensorView::new(spec.clone(), &bytes).unwrap();
    let alone = codec("lossless:level=max").encode(tensor(), &EncodeCx::new(7)).unwrap();
    let encoded = encode(&spec, &bytes, None);
    let sections = encoded.payload.sections();
    assert_eq!(sections.len(), alone.sections().len());
    for (name, section) in alone.sections() {
        assert_eq!(sections.get(&format!("alone/{name}")), Some(section));
    }
    assert!(decode(&encoded, None).unwrap() == bytes);
    // A base that does not help, and a base for a payload without one, which is ignored.
    let other: Vec<u8> = bytes.iter().rev().map(|byte| byte.wrapping_mul(151)).collect();
    let unhelped = encode(&spec, &bytes, Some(&other));
    assert_eq!(unhelped.payload.sections(), sections);
    assert!(decode(&encoded, Some(&other)).unwrap() == bytes);
}
