//! Settings drawn at random, on tensors of extreme values.

use codec_api::{Certificate, CodecError, DecodeCx, Dtype, EncodeCx, EncodedTensor, Registry, TensorView};
use laws::{FLOAT_DTYPES, Sample, strategies};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const INNERS: [&str; 13] = [
    "lossless.raw",
    "lossless.zstd",
    "lossless",
    "quant.cast:to=f16",
    "quant.cast:to=bf16",
    "quant.int:bits=8:group=row:symmetric=true:clip=false",
    "quant.int:bits=3",
    "quant.int:bits=2:group=32",
    "quant.q8_0",
    "quant.nf4",
    "quant.mxfp4",
    "quant.fp8",
    "quant.ternary",
];

/// A key that says how much is kept, with its number.
#[derive(Clone, Copy, Debug)]
enum Key {
    Rank(u32),
    Energy(f64),
    Error(f64),
    Bytes(u64),
}

impl Key {
    fn spec(self) -> String {
        match self {
            Self::Rank(rank) => format!("rank={rank}"),
            Self::Energy(share) => format!("energy={share}"),
            Self::Error(limit) => format!("error={limit}"),
            Self::Bytes(bytes) => format!("bytes={bytes}"),
        }
    }
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        3 => prop_oneof![1u32..40, Just(u32::MAX)].prop_map(Key::Rank),
        3 => prop_oneof![1e-6..1.0, select(vec![1.0, 0.9999, 1e-300])].prop_map(Key::Energy),
        3 => prop_oneof![1e-7..1.0, select(vec![1.0, 1e-3, 1e-300])].prop_map(Key::Error),
        2 => prop_oneof![1u64..20_000, Just(u64::MAX)].prop_map(Key::Bytes),
    ]
}

/// A number from 0 to 2³² − 1 for a place.
fn noise(seed: u32, i: usize) -> u32 {
    let x = ((u64::from(seed) << 32) | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
}

/// The weight at a flat index of a tensor with `n` weights in rows of `columns`.
fn weight(fill: usize, seed: u32, (n, columns): (usize, usize), i: usize) -> f32 {
    let bits = noise(seed, i);
    let unit = (f64::from(bits) / f64::from(u32::MAX) * 2.0 - 1.0) as f32;
    let signed = |x: f32| if bits.is_multiple_of(2) { x } else { -x };
    match fill {
        0 => signed(f32::MAX),
        1 => f32::MAX * unit,
        2 => signed(f32::from_bits(bits >> 9)),
        3 => f32::from_bits(u32::from(bits.is_multiple_of(5))),
        4 => [1.0, -0.3, f32::MAX, f32::MIN, 1e-40, f32::MIN_POSITIVE][seed as usize % 6],
        6 if i == seed as usize % n => f32::MAX,
        6 => 0.02 * unit,
        7 if i == seed as usize % n => -1e4,
        5 | 7 => 0.0,
        8 => unit * 10f32.powi((bits >> 8) as i32 % 76 - 38),
        9 => (noise(seed, i % columns) % 7) as f32 - 3.0,
        _ => unit,
    }
}

fn tensor() -> impl Strategy<Value = Sample> {
    let (rows, columns) = (select(vec![1usize, 2, 3, 7, 31, 33, 64, 255, 300]), select(vec![1usize, 31, 33, 255, 257]));
    let dtype = prop_oneof![2 => Just(Dtype::F32), 1 => select(&FLOAT_DTYPES[..])];
    (dtype, rows, columns, 0usize..11, any::<u32>()).prop_map(|(dtype, rows, columns, fill, seed)| {
        let shape = (rows * columns, columns);
        Sample::from_fn(format!("fill {fill}"), dtype, &[rows, columns], |i| weight(fill, seed, shape, i)).unwrap()
    })
}

/// Keeps what the settings promise, or says that they do not suit the tensor.
fn check(spec: &str, key: Key, sample: &Sample) {
    let what = format!("{spec} on {sample}");
    let codec = Registry::linked().unwrap().parse_spec(spec).unwrap();
    let allowed = codec.cost(sample.spec()).bytes;
    let (accepted, view) = (codec.accepts(sample.spec()), sample.view().unwrap());
    let encoded = match (accepted, EncodedTensor::encode(codec, view.clone(), &EncodeCx::new(1))) {
        (Ok(()), Ok(encoded)) => encoded,
        (Ok(()), Err(CodecError::Unsuitable { reason, number })) => {
            assert!(!reason.is_empty() && !number.is_nan(), "{what}: {reason} ({number})");
            return;
        }
        (Err(CodecError::Unsupported(_)), Err(_)) => return,
        (accepted, encoded) => panic!("{what}: {accepted:?}, {:?}", encoded.err()),
    };
    let bytes = encoded.payload.bytes();
    assert!(allowed.contains(&bytes) && bytes < sample.bytes().len() as u64, "{what}: {bytes} bytes");

    let source = view.to_finite_f32().unwrap();
    let stored = encoded.decode_bytes(&DecodeCx::new()).unwrap();
    let stored = TensorView::new(sample.spec().clone(), &stored).unwrap().to_finite_f32().unwrap();
    let (stated, measured) = (&encoded.certificate, Certificate::measure(&source, &stored));
    assert!(stated.agrees_with(&measured), "{what}: {stated:?}, but it is {measured:?}");

    let decoded = encoded.decode(&DecodeCx::new()).unwrap();
    assert!(decoded.iter().all(|w| w.is_finite()), "{what}");
    let error = Certificate::measure(&source, &decoded).rel_frobenius();
    let norm = source.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt();
    // The decomposition's own error, and the rounding of subnormal weights.
    let rounding = 5e-5 + if norm > 0.0 { (source.len() as f64).sqrt() * 2f64.powi(-150) / norm } else { 0.0 };
    let rank = encoded.payload.sections()["s"].spec().elements();
    match key {
        Key::Rank(wanted) => assert_eq!(rank, wanted as usize, "{what}"),
        Key::Energy(share) if spec.contains("(lossless") => {
            assert!(error <= (1.0 - share).sqrt() + rounding, "{what}: {error}");
        }
        Key::Energy(_) => {}
        Key::Error(limit) => assert!(error <= limit * (1.0 + 1e-9), "{what}: {error}"),
        Key::Bytes(limit) => assert!(bytes <= limit, "{what}: {bytes}"),
    }
}

#[test]
fn any_settings_keep_their_promises_or_refuse_extreme_tensors() {
    let method = select(vec!["auto", "exact", "randomised"]);
    let settings = (key(), select(&INNERS[..]), method);
    strategies::runner()
        .run(&(tensor(), vec(settings, 6)), |(sample, settings)| {
            for (key, inner, method) in settings {
                check(&format!("lowrank.svd({inner}):{}:method={method}", key.spec()), key, &sample);
            }
            Ok(())
        })
        .unwrap();
}
