//! Decode of 64 MiB of f32, compared with a memcpy of the same output, and encode of a small
//! tensor.
//!
//! Throughput counts dense f32 bytes, so rows compare directly: 1.0 of memcpy means that decoding
//! costs no more than copying the dense weights would. The decoder's work does not depend on the
//! codes, so the codes are random bits.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{DecodeCx, Dtype, EncodeCx, Payload, Registry, Section, TensorSpec, TensorView};
use codec_trellis as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness::testing::weights;

const ROWS: usize = 4096;
const COLUMNS: usize = 4096;

/// Well-mixed numbers, the same on every run.
fn noise() -> impl Iterator<Item = u64> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    })
}

fn payload(bits: usize) -> Payload {
    let codes: Vec<u8> = noise().take(ROWS * COLUMNS * bits / 8).map(|x| x as u8).collect();
    let sections = [
        ("codes", Section::from_bytes(codes)),
        ("levels", Section::from_bytes(vec![0; ROWS])),
        ("scale", Section::from_values(Dtype::F32, [1], vec![0.01f32])),
    ];
    let add = |payload: Payload, (name, section): (&str, _)| payload.with(name, section?);
    sections.into_iter().try_fold(Payload::new(), add).expect("sections of different names")
}

fn decode(c: &mut Criterion) {
    let spec = TensorSpec::new(Dtype::F32, [ROWS, COLUMNS]).expect("a small tensor");
    let registry = Registry::linked().expect("codec-trellis is linked");
    let source = vec![1.0f32; spec.elements()];
    let mut out = vec![0.0f32; spec.elements()];
    let mut group = c.benchmark_group("decode");
    group
        .throughput(Throughput::Bytes(4 * spec.elements() as u64))
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&source))));
    for (bits, state_bits, code) in
        [1, 2, 3, 4].into_iter().flat_map(|bits| [(bits, 12, "1mad"), (bits, 16, "1mad"), (bits, 12, "3inst")])
    {
        let text = format!("trellis.bitshift:bits={bits}:state_bits={state_bits}:code={code}");
        let (codec, payload) = (registry.parse_spec(&text).expect("a valid spec"), payload(bits));
        group.bench_function(text, |b| {
            b.iter(|| codec.decode(&spec, payload.view(), &DecodeCx::new(), black_box(&mut out)).expect("it decodes"));
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let weights = weights("gaussian", 128 * 1024);
    let tensor = TensorView::from_f32([128, 1024], &weights).expect("the shape fits");
    let registry = Registry::linked().expect("codec-trellis is linked");
    let mut group = c.benchmark_group("encode");
    group
        .throughput(Throughput::Elements(weights.len() as u64))
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(1));
    for (bits, state_bits) in [(2, 10), (2, 12), (2, 14), (2, 16), (1, 12), (3, 12), (4, 12)] {
        let text = format!("trellis.bitshift:bits={bits}:state_bits={state_bits}:code=1mad");
        let codec = registry.parse_spec(&text).expect("a valid spec");
        group.bench_function(text, |b| b.iter(|| codec.encode(black_box(tensor.clone()), &EncodeCx::new(0))));
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
