//! Encode and decode of every preset, one thread, beside a memcpy of the same output and the brute force that the search
//! replaces. Throughput counts weights.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{Codec, DecodeCx, EncodeCx, TensorView};
use codec_seedlm::SeedLm;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use harness::suite::{Suite, SuiteOptions};

/// For encoding, decoding, and trying every seed.
const SUITES: [&str; 3] = ["gaussian:256x1024", "gaussian:4096x4096", "gaussian:8x24"];

fn gaussian(suite: &str) -> Vec<f32> {
    let suite = Suite::parse(suite, &SuiteOptions::default()).expect("a valid suite");
    suite.items[0].view().and_then(|view| Ok(view.to_f32()?.into_owned())).expect("an f32 tensor")
}

fn presets() -> [(&'static str, SeedLm); 3] {
    [("4bit", SeedLm::four_bit()), ("3bit", SeedLm::three_bit()), ("2bit", SeedLm::two_bit())]
}

fn group<'a>(c: &'a mut Criterion, name: &str, weights: &[f32]) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(weights.len() as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group
}

fn speed(c: &mut Criterion) {
    let [few, many, fewest] = SUITES.map(gaussian);
    let tensor = |weights| TensorView::from_f32([size_of_val(weights) / 4], weights).expect("the shape fits");
    let mut encode = group(c, "encode", &few);
    for (name, codec) in presets() {
        encode.bench_function(name, |b| b.iter(|| codec.encode(black_box(tensor(&few)), &EncodeCx::new(0))));
    }
    encode.finish();

    let mut brute_force = group(c, "encode by brute force", &fewest);
    for (name, codec) in presets() {
        brute_force.bench_function(name, |b| {
            b.iter(|| codec.encode_by_brute_force(black_box(&tensor(&fewest)), &EncodeCx::new(0)));
        });
    }
    brute_force.finish();

    let mut decode = group(c, "decode", &many);
    let mut out = vec![0.0f32; many.len()];
    decode.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&many))));
    for (name, codec) in presets() {
        // Any codes take as long as the best ones.
        let codec_of_any_seeds: SeedLm = any_seeds(&codec);
        let payload = codec_of_any_seeds.encode(tensor(&many), &EncodeCx::new(0)).expect("it encodes");
        let spec = tensor(&many).spec().clone();
        decode.bench_function(name, |b| {
            b.iter(|| codec.decode(&spec, payload.view(), &DecodeCx::new(), black_box(&mut out)));
        });
    }
    decode.finish();
}

/// The same format, encoded in no time.
fn any_seeds(codec: &SeedLm) -> SeedLm {
    let mut quick = codec.clone();
    quick.search = codec_seedlm::Budget::Draw(16);
    quick
}

criterion_group!(benches, speed);
criterion_main!(benches);
