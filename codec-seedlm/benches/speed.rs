//! Encode and decode on one thread: every preset, a search over drawn seeds, and weights that are
//! slow to search. For comparison: a memcpy of the decoded weights, and the brute force that the
//! search replaces. Throughput counts weights.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{Codec, DecodeCx, EncodeCx, Payload, TensorView};
use codec_seedlm::{Budget, SeedLm};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use harness::testing::weights;

// Number of weights in each group.
const ENCODED: usize = 1 << 18;
const SLOW: usize = 1 << 16;
const BRUTE_FORCED: usize = 192;
/// 64 MiB of f32.
const DECODED: usize = 1 << 24;

fn presets() -> [(&'static str, SeedLm); 4] {
    [
        ("4bit", SeedLm::four_bit()),
        ("4bit-coded", SeedLm::four_bit().coded()),
        ("3bit", SeedLm::three_bit()),
        ("2bit", SeedLm::two_bit()),
    ]
}

/// The same format, searched over `seeds` drawn seeds.
fn drawing(mut codec: SeedLm, seeds: u32) -> SeedLm {
    codec.search = Budget::Draw(seeds);
    codec
}

fn tensor(weights: &[f32]) -> TensorView<'_> {
    TensorView::from_f32([weights.len()], weights).expect("the shape fits")
}

fn encoded(codec: &SeedLm, weights: &[f32]) -> Payload {
    codec.encode(tensor(weights), &EncodeCx::new(0)).expect("it encodes")
}

fn group<'a>(c: &'a mut Criterion, name: &str, weights: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(weights as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group
}

fn encode(c: &mut Criterion) {
    let gaussian = weights("gaussian", ENCODED);
    let mut group = group(c, "encode", ENCODED);
    let drawn = ("4bit, search=4096", drawing(SeedLm::four_bit(), 4096));
    for (name, codec) in presets().into_iter().chain([drawn]) {
        group.bench_function(name, |b| b.iter(|| encoded(&codec, black_box(&gaussian))));
    }
    group.finish();
}

/// Blocks that are all alike, and blocks far below the largest of their tensor, beside ordinary
/// ones.
fn encode_slow(c: &mut Criterion) {
    let gaussian = weights("gaussian", SLOW);
    let with_one_of = |large| {
        let mut values = gaussian.clone();
        values[SLOW / 2] = large;
        values
    };
    let mut group = group(c, "encode what is slow to search, 4bit", SLOW);
    for (name, values) in [
        ("gaussian", gaussian.clone()),
        ("gaussian with one 1000", with_one_of(1000.0)),
        ("gaussian with one 3000", with_one_of(3000.0)),
        ("constant", vec![0.5; SLOW]),
    ] {
        group.bench_function(name, |b| b.iter(|| encoded(&SeedLm::four_bit(), black_box(&values))));
    }
    group.finish();
}

fn brute_force(c: &mut Criterion) {
    let gaussian = weights("gaussian", BRUTE_FORCED);
    let mut group = group(c, "encode by brute force", BRUTE_FORCED);
    for (name, codec) in presets() {
        group.bench_function(name, |b| {
            b.iter(|| codec.encode_by_brute_force(&tensor(black_box(&gaussian)), &EncodeCx::new(0)));
        });
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let gaussian = weights("gaussian:4096x4096", DECODED);
    let mut out = vec![0.0f32; DECODED];
    let mut group = group(c, "decode", DECODED);
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&gaussian))));
    for (name, codec) in presets() {
        // The codes do not affect the decoding time, and a short search finds some much sooner.
        let payload = encoded(&drawing(codec.clone(), 16), &gaussian);
        let spec = tensor(&gaussian).spec().clone();
        group.bench_function(name, |b| {
            b.iter(|| codec.decode(&spec, payload.view(), &DecodeCx::new(), black_box(&mut out)));
        });
    }
    group.finish();
}

criterion_group!(benches, encode, encode_slow, brute_force, decode);
criterion_main!(benches);
