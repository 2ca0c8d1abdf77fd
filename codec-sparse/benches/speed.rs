//! Encode and decode of every sparse form on 64 MiB of f32 with 5 % non-zero weights. The baselines
//! are a memcpy of the same output and the least work that decoding needs: clearing the output and
//! storing ready values at ready positions.
//!
//! All throughput figures count dense f32 bytes, so rows compare directly.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{DecodeCx, EncodeCx, Registry, TensorView};
use codec_lossless as _;
use codec_sparse as _;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};

const ROWS: usize = 4096;
const COLUMNS: usize = 4096;

const SPECS: [&str; 7] = [
    "sparse.csr:index=u32",
    "sparse.csr:index=narrow",
    "sparse.csr:index=gap",
    "sparse.csr:index=coded",
    "sparse.coo",
    "sparse.bitmap",
    "sparse",
];

/// Uniform weights at the places that `keep` accepts, zeros elsewhere. `keep` gets an index and a
/// random number from 0 to 1.
fn weights(keep: impl Fn(usize, f64) -> bool) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    (0..ROWS * COLUMNS)
        .map(|i| (uniform() as f32 - 0.5, keep(i, uniform())))
        .map(|(w, kept)| if kept { w } else { 0.0 })
        .collect()
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes((4 * ROWS * COLUMNS) as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

fn decode(c: &mut Criterion, name: &str, weights: &[f32], specs: &[&str]) {
    let tensor = TensorView::from_f32([ROWS, COLUMNS], weights).expect("the shape fits");
    let registry = Registry::linked().expect("codec-sparse is linked");
    let mut out = vec![0.0f32; weights.len()];
    let positions: Vec<u32> = (0..weights.len() as u32).filter(|i| weights[*i as usize] != 0.0).collect();
    let values: Vec<f32> = positions.iter().map(|i| weights[*i as usize]).collect();
    let mut group = group(c, name);
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(weights))));
    group.bench_function("clear and scatter", |b| {
        b.iter(|| {
            let out = black_box(&mut out);
            out.fill(0.0);
            for (position, value) in black_box(&positions).iter().zip(black_box(&values)) {
                out[*position as usize] = *value;
            }
        });
    });
    for spec in specs {
        let codec = registry.parse_spec(spec).expect("a valid spec");
        let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).expect("it encodes");
        group.bench_function(*spec, |b| {
            b.iter(|| {
                codec.decode(tensor.spec(), payload.view(), &DecodeCx::new(), black_box(&mut out)).expect("it decodes");
            });
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion, name: &str, weights: &[f32], specs: &[&str]) {
    let tensor = TensorView::from_f32([ROWS, COLUMNS], weights).expect("the shape fits");
    let registry = Registry::linked().expect("codec-sparse is linked");
    let mut out = vec![0.0f32; weights.len()];
    let mut group = group(c, name);
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(weights))));
    for spec in specs {
        let codec = registry.parse_spec(spec).expect("a valid spec");
        group.bench_function(*spec, |b| {
            b.iter(|| codec.encode(black_box(tensor.clone()), &EncodeCx::new(0)).expect("it encodes"));
        });
    }
    group.finish();
}

fn speed(c: &mut Criterion) {
    let five_percent = weights(|_, chance| chance < 0.05);
    decode(c, "decode 5 %", &five_percent, &SPECS);
    encode(c, "encode 5 %", &five_percent, &SPECS);
    let two_of_four = weights(|i, _| (i >> 2 ^ i) & 1 == 0);
    decode(c, "decode 2 of 4", &two_of_four, &["sparse.nm", "sparse.bitmap"]);
    encode(c, "encode 2 of 4", &two_of_four, &["sparse.nm", "sparse.bitmap"]);
    let dense = weights(|_, _| true);
    let pruned = ["sparse.prune:density=0.05", "sparse.prune(sparse.nm):pattern=2of4", "sparse.prune:threshold=0.475"];
    encode(c, "prune and encode", &dense, &pruned);
}

criterion_group!(benches, speed);
criterion_main!(benches);
