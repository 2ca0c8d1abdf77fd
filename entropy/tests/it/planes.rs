//! Planes: a reader returns a result for any bytes, and reading in different parts gives the same
//! result.

use entropy::Error;
use entropy::plane::{self, Known, Reader};
use proptest::collection::vec;
use proptest::prelude::*;

/// A plane that depends on its contexts, on the plane before, or on neither, with noise.
fn plane(kind: u8, contexts: &[u8], before: &[u8], noise: &[u8]) -> Vec<u8> {
    let bytes = contexts.iter().zip(before).zip(noise);
    bytes
        .map(|((context, before), noise)| match kind {
            0 => 77,
            1 => *noise,
            2 => noise & 7,
            3 => (context << 2).wrapping_add(noise & 3),
            _ => (before << 5) ^ (noise & 1),
        })
        .collect()
}

/// Reads a plane of `len` bytes; `parts` are part lengths in multiples of 32.
fn read(coded: &[u8], known: Known<'_>, len: usize, parts: &[usize]) -> Result<Vec<u8>, Error> {
    let (mut reader, mut out, mut parts) = (Reader::new(coded, len)?, vec![0; len], parts.iter().cycle());
    let mut first = 0;
    while first < len {
        let last = parts.next().map_or(len, |n| first + 32 * n).min(len);
        let some = |bytes: &'_ [u8]| bytes.get(first..last).unwrap_or_default().to_vec();
        let (contexts, before) = (some(known.contexts), some(known.before));
        reader.read(Known { contexts: &contexts, before: &before, ..known }, &mut out[first..last])?;
        first = last;
    }
    reader.finish()?;
    Ok(out)
}

fn known_of(len: usize) -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let of = move |most: u8| prop_oneof![Just(Vec::new()), vec(0..=most, len), vec(0..=most, 0..len + 2)];
    (of(255), of(255))
}

/// Bytes with the beginning of a plane: a mode, a few small numbers, then anything.
fn coded() -> impl Strategy<Value = Vec<u8>> {
    (0u8..6, vec(0u8..6, 0..8), vec(any::<u8>(), 0..500))
        .prop_map(|(mode, small, rest)| [&[mode], &small[..], &rest].concat())
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(
        (len, (contexts, before)) in (0usize..400).prop_flat_map(|len| (Just(len), known_of(len))),
        coded in prop_oneof![coded(), vec(any::<u8>(), 0..300)],
        parts in vec(1usize..4, 1..4),
    ) {
        let known = Known { contexts: &contexts, before: &before, ..Known::default() };
        let mut out = vec![0; len];
        let whole = plane::decode(&coded, known, &mut out);
        let in_parts = read(&coded, known, len, &parts);
        if whole.is_ok() {
            prop_assert!(in_parts.is_err() || in_parts == Ok(out));
        }
    }

    #[test]
    fn damaged_planes_are_decoded_or_refused(kind in 0u8..5, at in any::<prop::sample::Index>(), byte in 1u8.., seed in any::<u64>()) {
        let (contexts, before, bytes) = planes(kind, 700, seed);
        let known = Known { contexts: &contexts, before: &before, ..Known::default() };
        let mut coded = plane::encode(&bytes, known).expect("it encodes");
        let at = at.index(coded.len());
        coded[at] ^= byte;
        let _ = plane::decode(&coded, known, &mut vec![0; bytes.len()]);
    }

    #[test]
    fn parts_do_not_matter(kind in 0u8..5, len in 1usize..9000, parts in vec(1usize..150, 1..5), seed in any::<u64>()) {
        let (contexts, before, bytes) = planes(kind, len, seed);
        let known = Known { contexts: &contexts, before: &before, ..Known::default() };
        let coded = plane::encode(&bytes, known).expect("it encodes");
        prop_assert_eq!(read(&coded, known, len, &parts), Ok(bytes));
    }
}

/// Contexts, the plane before, and a plane of the given kind.
fn planes(kind: u8, len: usize, seed: u64) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let [contexts, before, noise] = [63, 7, 255].map(|most| (0..len).map(|_| next() & most).collect::<Vec<_>>());
    let bytes = plane(kind, &contexts, &before, &noise);
    (contexts, before, bytes)
}

#[test]
fn other_parts_are_refused_in_every_mode() {
    let mut modes = Vec::new();
    for kind in 0..5 {
        let (contexts, before, bytes) = planes(kind, 5000, 3);
        let known = Known { contexts: &contexts, before: &before, ..Known::default() };
        let coded = plane::encode(&bytes, known).expect("it encodes");
        modes.push(coded[0]);
        for wrong in [1, 31, 33, 4095, 4100, 4999, 5001] {
            let (contexts, before) = (vec![0; wrong], vec![0; wrong]);
            let known = Known { contexts: &contexts, before: &before, ..Known::default() };
            let refused = Reader::new(&coded, 5000).expect("a plane").read(known, &mut vec![0; wrong]);
            assert_eq!(refused, Err(Error::Part { symbols: wrong, left: 5000 }), "mode {}", coded[0]);
        }
        let mut reader = Reader::new(&coded, 5000).expect("a plane");
        let first = Known { contexts: &contexts[..64], before: &before[..64], ..Known::default() };
        assert_eq!(reader.read(first, &mut [0; 64]), Ok(()));
        assert!(reader.finish().is_err(), "mode {}", coded[0]);
    }
    assert_eq!(modes, [0, 1, 2, 3, 4]);
}
