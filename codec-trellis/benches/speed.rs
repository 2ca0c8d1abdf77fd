//! Encoding at a given step, the search for the step of a rate, and decoding, on one thread,
//! compared with a memcpy of the decoded weights. Throughput counts weights.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{Codec, DecodeCx, EncodeCx, Payload, TensorSpec, TensorView};
use codec_trellis::{States, Target, Trellis};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use harness::testing::weights;
use simd::{Level, with_level};

/// Rows and columns: 16 MiB of f32.
const SHAPE: [usize; 2] = [2048, 2048];
const WEIGHTS: usize = SHAPE[0] * SHAPE[1];

const QUALITIES: [(&str, States); 3] =
    [("8 states", States::FAST), ("64 states", States::BALANCED), ("256 states", States::BEST)];

/// The step at which Gaussian weights take four bits.
const STEP: f64 = 0.13;

fn encoded(codec: &Trellis, weights: &[f32]) -> Payload {
    let tensor = TensorView::from_f32(SHAPE, weights).expect("the shape fits");
    codec.encode(tensor, &EncodeCx::new(0)).expect("it encodes")
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(WEIGHTS as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group
}

fn encode(c: &mut Criterion) {
    let gaussian = weights("gaussian:2048x2048", WEIGHTS);
    for level in Level::available() {
        let mut group = group(c, &format!("encode at a step, {level}"));
        for (name, states) in QUALITIES {
            let codec = Trellis::new(states, Target::Step(STEP));
            group.bench_function(name, |b| b.iter(|| with_level(level, || encoded(&codec, black_box(&gaussian)))));
        }
        group.finish();
    }
}

fn search(c: &mut Criterion) {
    let gaussian = weights("gaussian:2048x2048", WEIGHTS);
    let mut group = group(c, "encode, the step searched");
    for bits in [1.0, 4.0] {
        for (name, states) in QUALITIES {
            let codec = Trellis::new(states, Target::Bits(bits));
            let name = format!("{name}, {bits} bits");
            group.bench_function(name, |b| b.iter(|| encoded(&codec, black_box(&gaussian))));
        }
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let spec = TensorSpec::new(codec_api::Dtype::F32, SHAPE).expect("a spec");
    let mut out = vec![0.0; WEIGHTS];
    for level in Level::available() {
        let mut group = group(c, &format!("decode, {level}"));
        for (suite, bits) in [("gaussian", 2.0), ("gaussian", 4.0), ("gaussian", 6.0), ("scale-mixed", 4.0)] {
            let codec = Trellis::new(States::FAST, Target::Bits(bits));
            let payload = encoded(&codec, &weights(&format!("{suite}:2048x2048"), WEIGHTS));
            let mut run = || {
                with_level(level, || codec.decode(&spec, payload.view(), &DecodeCx::new(), black_box(&mut out)))
                    .expect("it decodes");
            };
            group.bench_function(format!("{suite}, {bits} bits"), |b| b.iter(&mut run));
        }
        group.finish();
    }
    let source = vec![1.0f32; WEIGHTS];
    let mut group = group(c, "memcpy");
    group.bench_function("16 MiB", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&source))));
    group.finish();
}

criterion_group!(benches, encode, search, decode);
criterion_main!(benches);
