//! Encode and decode of every method on 64 MiB of Gaussian f32, next to a memcpy of the same
//! output.
//!
//! Throughput counts dense f32 bytes everywhere, so rows compare directly: a decoder as fast as the
//! memcpy costs no more than copying the dense weights.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{DecodeCx, EncodeCx, Registry, TensorView};
use codec_quant as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 4096;
const COLUMNS: usize = 4096;

const SPECS: [&str; 33] = [
    "quant.int:bits=8:group=row",
    "quant.int:bits=8:group=32",
    "quant.int:bits=4:group=128:symmetric=false",
    "quant.int:bits=4:group=32",
    "quant.int:bits=3:group=128:symmetric=false",
    "quant.nf4:double_quant=false",
    "quant.nf4:double_quant=true",
    "quant.ternary:fit=absmean",
    "quant.ternary:fit=least_squares",
    "quant.cast:to=f16",
    "quant.cast:to=bf16",
    "quant.mxfp4",
    "quant.nvfp4",
    "quant.fp8:format=e4m3:scope=row",
    "quant.fp8:format=e4m3:scope=tensor",
    "quant.fp8:format=e5m2:scope=row",
    "quant.ternary:fit=absmean:packing=lanes",
    "quant.vector:preset=2bit",
    "quant.vector:preset=2.25bit",
    "quant.vector:preset=3bit",
    "quant.vector:preset=4bit",
    "quant.q8_0",
    "quant.q5_1",
    "quant.q5_0",
    "quant.q4_1",
    "quant.q4_0",
    "quant.iq4_nl",
    "quant.q6_k",
    "quant.q5_k",
    "quant.q4_k",
    "quant.iq4_xs",
    "quant.q3_k",
    "quant.q2_k",
];

/// Sums of uniforms are close enough to Gaussian for a speed test.
fn weights() -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..ROWS * COLUMNS).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 1.414).collect()
}

fn speed(c: &mut Criterion) {
    let weights = weights();
    let tensor = TensorView::from_f32([ROWS, COLUMNS], &weights).expect("the shape fits");
    let registry = Registry::linked().expect("codec-quant is linked");
    let mut out = vec![0.0f32; weights.len()];
    let bytes = Throughput::Bytes(size_of_val(weights.as_slice()) as u64);

    let mut group = c.benchmark_group("decode");
    group
        .throughput(bytes.clone())
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&weights))));
    for spec in SPECS {
        let codec = registry.parse_spec(spec).expect("a valid spec");
        let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).expect("it encodes");
        group.bench_function(spec, |b| {
            b.iter(|| codec.decode(tensor.spec(), payload.view(), &DecodeCx::new(), black_box(&mut out)));
        });
    }
    group.finish();

    let mut group = c.benchmark_group("encode");
    group
        .throughput(bytes)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&weights))));
    for spec in SPECS.into_iter().chain(["quant.int:bits=4:group=128:symmetric=false:clip=true"]) {
        let codec = registry.parse_spec(spec).expect("a valid spec");
        group.bench_function(spec, |b| b.iter(|| codec.encode(black_box(tensor.clone()), &EncodeCx::new(0))));
    }
    group.finish();
}

criterion_group!(benches, speed);
criterion_main!(benches);
