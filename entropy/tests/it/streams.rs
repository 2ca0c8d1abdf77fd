//! Streams: round trips, equal bytes at every level, sizes near the entropy, and detection of
//! damage.

use constriction::stream::model::DefaultContiguousCategoricalEntropyModel;
use constriction::stream::stack::DefaultAnsCoder;
use entropy::{Decoder, Encoder, Error, Frequencies, PRECISION, STATES, States};
use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use simd::{LANES, Level, Table, with_level};

/// Symbols with geometric frequencies around a centre that depends on the context.
fn geometric(n: usize, contexts: u8, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..n)
        .map(|_| {
            let (context, bits) = ((rng.next_u32() % u32::from(contexts)) as u8, rng.next_u64());
            let distance = (bits >> 1).trailing_zeros().min(20) as u8;
            let middle = 100 + context;
            (if bits & 1 == 0 { middle + distance } else { middle - distance }, context)
        })
        .unzip()
}

fn tables(symbols: &[u8], contexts: &[u8], n: u8) -> Vec<Frequencies> {
    (0..n)
        .map(|context| {
            let of = symbols.iter().zip(contexts).filter(|(_, c)| **c == context).map(|(s, _)| *s).collect::<Vec<_>>();
            Frequencies::of_symbols(&of).unwrap_or_else(|| Frequencies::of_symbols(&[0]).expect("one symbol"))
        })
        .collect()
}

/// Encodes and decodes at every level.
fn round_trip(symbols: &[u8], contexts: &[u8], tables: &[Frequencies]) -> Vec<u8> {
    let (encoder, decoder) = (Encoder::new(tables), Decoder::new(tables));
    let bytes = with_level(Level::Scalar, || encoder.encode(symbols, contexts)).expect("every symbol has a frequency");
    for level in Level::available() {
        with_level(level, || {
            assert!(encoder.encode(symbols, contexts).as_ref() == Ok(&bytes), "other bytes at {level}");
            let mut decoded = vec![0; symbols.len()];
            assert_eq!(decoder.decode(&bytes, contexts, &mut decoded), Ok(()), "at {level}");
            assert!(decoded == symbols, "other symbols at {level}");
        });
    }
    bytes
}

#[test]
fn every_length_comes_back() {
    for n in (0..200).chain([1000, 4095, 4096, 4097, 100_000]) {
        let (symbols, contexts) = geometric(n, 5, n as u64);
        round_trip(&symbols, &contexts, &tables(&symbols, &contexts, 5));
        if let Some(all) = Frequencies::of_symbols(&symbols) {
            round_trip(&symbols, &[], &[all]);
        }
    }
}

proptest! {
    #[test]
    fn everything_comes_back(symbols in proptest::collection::vec(any::<u8>(), 0..600), contexts in 1u8..7) {
        let given: Vec<u8> = (0..symbols.len()).map(|i| (i % usize::from(contexts)) as u8).collect();
        round_trip(&symbols, &given, &tables(&symbols, &given, contexts));
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), n in 0usize..300) {
        let decoder = Decoder::new(&tables(&[1, 2, 2, 3, 3, 3], &[0, 0, 0, 0, 1, 1], 2));
        for level in Level::available() {
            let _ = with_level(level, || decoder.decode(&bytes, &vec![1; n], &mut vec![0; n]));
        }
    }
}

#[test]
fn streams_are_as_small_as_their_entropy() {
    let (symbols, contexts) = geometric(1 << 20, 8, 1);
    let tables = tables(&symbols, &contexts, 8);
    let bytes = round_trip(&symbols, &contexts, &tables);
    let ideal: f64 = (0..8)
        .map(|context| {
            let mut counts = [0; 256];
            for (symbol, _) in symbols.iter().zip(&contexts).filter(|(_, c)| **c == context) {
                counts[usize::from(*symbol)] += 1;
            }
            tables[usize::from(context)].cost(&counts)
        })
        .sum();
    let bits = bytes.len() as f64 * 8.0;
    // 32 states of 16 bits beyond their content.
    assert!(bits < ideal * 1.0002 + 600.0, "{bits} bits, the tables' cost is {ideal}");
}

#[test]
fn constriction_needs_as_many_words() {
    let (symbols, _) = geometric(1 << 18, 1, 2);
    let frequencies = Frequencies::of_symbols(&symbols).expect("symbols");
    let bytes = round_trip(&symbols, &[], std::slice::from_ref(&frequencies));
    // The same probabilities, so that only the coders differ.
    let probabilities: Vec<f64> =
        (0..=255).map(|s| f64::from(frequencies.get(s)) / f64::from(1u32 << PRECISION)).collect();
    let occurring: Vec<usize> = (0..256).filter(|s| probabilities[*s] > 0.0).collect();
    let some: Vec<f64> = occurring.iter().map(|s| probabilities[*s]).collect();
    let model = DefaultContiguousCategoricalEntropyModel::from_floating_point_probabilities_fast(&some, None)
        .expect("probabilities");
    let mut coder = DefaultAnsCoder::new();
    let places = symbols.iter().map(|s| occurring.binary_search(&usize::from(*s)).expect("it occurs"));
    coder.encode_iid_symbols_reverse(places.collect::<Vec<_>>(), &model).expect("it encodes");
    let theirs = coder.num_bits() as f64;
    assert!((bytes.len() as f64 * 8.0 - theirs).abs() < 0.001 * theirs + 600.0, "{} bytes, {theirs} bits", bytes.len());
}

#[test]
fn damage_is_found() {
    let (symbols, contexts) = geometric(5000, 3, 3);
    let tables = tables(&symbols, &contexts, 3);
    let (bytes, decoder) = (round_trip(&symbols, &contexts, &tables), Decoder::new(&tables));
    let mut out = vec![0; symbols.len()];
    for end in 0..bytes.len() {
        assert!(decoder.decode(&bytes[..end], &contexts, &mut out).is_err(), "cut to {end} bytes");
    }
    let longer = [&bytes[..], &[0, 0]].concat();
    assert!(decoder.decode(&longer, &contexts, &mut out).is_err());
    let mut found = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let same = decoder.decode(&damaged, &contexts, &mut out).is_ok();
        assert!(!same || out != symbols, "byte {at} does not matter");
        found += usize::from(!same);
    }
    // A wrong state ends at 2^16 only by chance.
    assert!(found * 1000 > bytes.len() * 999, "{found} of {}", bytes.len());
}

#[test]
fn what_has_no_table_is_refused() {
    let frequencies = [Frequencies::of_symbols(&[1, 2, 2]).expect("symbols")];
    let (encoder, decoder) = (Encoder::new(&frequencies), Decoder::new(&frequencies));
    assert_eq!(encoder.encode(&[1, 2, 9, 8], &[]), Err(Error::Impossible { symbol: 9, context: 0 }));
    assert_eq!(encoder.encode(&[1, 2], &[0, 1]), Err(Error::NoTable { context: 1, tables: 1 }));
    assert_eq!(encoder.encode(&[1, 2], &[0]), Err(Error::Contexts { contexts: 1, symbols: 2 }));
    assert_eq!(encoder.encode(&[], &[]), Ok(Vec::new()));
    assert_eq!(decoder.decode(&[0; 8], &[0, 1], &mut [0; 2]), Err(Error::NoTable { context: 1, tables: 1 }));
    assert!(Encoder::new(&[]).encode(&[1], &[]).is_err() && Decoder::new(&[]).decode(&[], &[], &mut [0]).is_err());
    assert_eq!(Decoder::new(&[]).decode(&[], &[], &mut []), Ok(()));
}

#[test]
fn narrow_streams_come_back_and_are_shorter() {
    for n in [0, 1, 5, 31, 32, 33, 100, 1000] {
        let (symbols, contexts) = geometric(n, 3, n as u64);
        let tables = tables(&symbols, &contexts, 3);
        let (encoder, decoder) = (Encoder::new(&tables), Decoder::new(&tables));
        let table = decoder.table().expect("tables");
        let whole = encoder.encode(&symbols, &contexts).expect("every symbol has a frequency").len();
        for width in [1, 2, 4, 8, 16, 32] {
            let mut bytes = Vec::new();
            encoder.append_narrow(&symbols, &contexts, width, &mut bytes).expect("every symbol has a frequency");
            assert!(bytes.len() <= whole + 2, "{n} symbols, {width} states: {} of {whole} bytes", bytes.len());
            for level in Level::available() {
                let decoded = with_level(level, || narrow(table, &bytes, &contexts, width)).expect("it decodes");
                assert_eq!(decoded, symbols, "{n} symbols, {width} states, {level}");
            }
            for end in 0..bytes.len() {
                assert!(narrow(table, &bytes[..end], &contexts, width).is_err(), "{end} of {} bytes", bytes.len());
            }
        }
    }
}

simd::kernel! {
    fn narrow<'a>(simd, table: Table<'a>, bytes: &'a [u8], contexts: &'a [u8], width: usize) -> Result<Vec<u8>, Error> {
        let mut states = States::narrow(bytes, contexts.len(), width)?;
        let mut out = Vec::new();
        for contexts in contexts.chunks(STATES) {
            let mut known = [[0u32; LANES]; 2];
            known.as_flattened_mut().iter_mut().zip(contexts).for_each(|(lane, context)| *lane = (*context).into());
            out.extend(&states.step(simd, table, &known).as_flattened()[..contexts.len()]);
        }
        states.finish()?;
        Ok(out)
    }
}
