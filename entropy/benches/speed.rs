//! Speed of rANS with 256 symbols, compared with constriction and with Zstandard's entropy stage on
//! the same symbols.
//!
//! Throughput counts symbols of one byte: GiB/s are symbols/s · 2⁻³⁰.

use std::hint::black_box;
use std::time::Duration;

use constriction::stream::Decode;
use constriction::stream::model::SmallContiguousCategoricalEntropyModel;
use constriction::stream::stack::SmallAnsCoder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use entropy::{Decoder, Encoder, Frequencies, parametric};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use simd::{Level, with_level};

const SYMBOLS: usize = 4 << 20;
const CONTEXTS: usize = 32;

/// Gaussian symbols over nearly all 256 values; each context is wider than the one before.
fn symbols() -> (Vec<u8>, Vec<u8>) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(0);
    let mut symbol = |context: u8| {
        let sum: i64 = (0..12).map(|_| i64::from(rng.next_u32() >> 8)).sum::<i64>() - 6 * (1 << 24);
        let width = 20 + i64::from(context);
        (128 + sum * width / (1 << 24)).clamp(0, 255) as u8
    };
    (0..SYMBOLS).map(|i| ((i * 7 / 5) % CONTEXTS) as u8).map(|context| (symbol(context), context)).unzip()
}

fn bench(c: &mut Criterion) {
    let (symbols, contexts) = symbols();
    let order0 = [Frequencies::of_symbols(&symbols).expect("symbols")];
    let by_context: Vec<_> = (0..CONTEXTS)
        .map(|context| {
            let of = symbols.iter().zip(&contexts).filter(|(_, c)| usize::from(**c) == context);
            Frequencies::of_symbols(&of.map(|(s, _)| *s).collect::<Vec<_>>()).expect("symbols")
        })
        .collect();
    let mut group = c.benchmark_group("rans");
    group.throughput(Throughput::Bytes(SYMBOLS as u64)).measurement_time(Duration::from_secs(3)).sample_size(20);
    for (name, tables, contexts) in [("order0", &order0[..], &[][..]), ("32 contexts", &by_context, &contexts)] {
        let (encoder, decoder) = (Encoder::new(tables), Decoder::new(tables));
        let bytes = encoder.encode(&symbols, contexts).expect("it encodes");
        let mut out = vec![0; SYMBOLS];
        for level in Level::available().into_iter().rev() {
            group.bench_function(format!("decode/{name}/{level}"), |b| {
                b.iter(|| {
                    with_level(level, || decoder.decode(&bytes, contexts, black_box(&mut out))).expect("it decodes");
                });
            });
            group.bench_function(format!("encode/{name}/{level}"), |b| {
                b.iter(|| with_level(level, || encoder.encode(black_box(&symbols), contexts)).expect("it encodes"));
            });
        }
    }
    group.bench_function("tables/32 contexts", |b| b.iter(|| Decoder::new(black_box(&by_context))));
    constriction(&mut group, &symbols);
    zstd(&mut group, &symbols);
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn constriction(group: &mut Group<'_>, symbols: &[u8]) {
    let probabilities = parametric::gaussian(1.0 / 35.0, 127);
    let model = SmallContiguousCategoricalEntropyModel::from_floating_point_probabilities_fast(&probabilities, None)
        .expect("probabilities");
    let places: Vec<usize> = symbols.iter().map(|s| usize::from(*s).clamp(1, 254)).collect();
    let mut coder = SmallAnsCoder::new();
    coder.encode_iid_symbols_reverse(&places, &model).expect("it encodes");
    let model = model.to_lookup_decoder_model();
    group.bench_function("decode/order0/constriction", |b| {
        b.iter(|| {
            let mut coder = coder.clone();
            coder.decode_iid_symbols(SYMBOLS, &model).fold(0, |sum, s| sum + s.expect("a symbol"))
        });
    });
}

fn zstd(group: &mut Group<'_>, symbols: &[u8]) {
    let frame = zstd::bulk::compress(symbols, 1).expect("it compresses");
    let mut out = vec![0; SYMBOLS];
    group.bench_function("decode/zstd", |b| {
        b.iter(|| zstd::bulk::decompress_to_buffer(&frame, black_box(&mut out)).expect("it decompresses"));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
