//! Encode and decode of 64 MiB of Gaussian bf16 weights, beside a memcpy of the same output.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{DecodeCx, Dtype, EncodeCx, Registry, TensorSpec, TensorView};
use codec_lossless as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;

const SPECS: [&str; 5] =
    ["lossless.raw", "lossless.zstd:level=3", "lossless.bf16x12", "lossless:level=fast", "lossless:level=max"];

/// Each weight is the sum of four uniform numbers, which is close enough to Gaussian.
fn weights() -> Vec<u8> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..1 << 25).flat_map(|_| bf16::from_f32((0..4).map(|_| uniform()).sum()).to_le_bytes()).collect()
}

fn speed(c: &mut Criterion) {
    let bytes = weights();
    let spec = TensorSpec::new(Dtype::BF16, [4096, 8192]).expect("a valid shape");
    let tensor = TensorView::new(spec, &bytes).expect("the shape fits");
    let registry = Registry::linked().expect("codec-lossless is linked");
    let mut out = vec![0u8; bytes.len()];

    let mut group = c.benchmark_group("lossless");
    group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&bytes))));
    for spec in SPECS {
        let codec = registry.parse_spec(spec).expect("a valid spec");
        let payload = codec.encode(tensor.clone(), &EncodeCx::new(0)).expect("it encodes");
        let lossless = codec.as_lossless().expect("it is lossless");
        group.bench_function(format!("encode {spec}"), |b| {
            b.iter(|| codec.encode(black_box(tensor.clone()), &EncodeCx::new(0)));
        });
        group.bench_function(format!("decode {spec}"), |b| {
            b.iter(|| lossless.decode_bytes(tensor.spec(), payload.view(), &DecodeCx::new(), black_box(&mut out)));
        });
    }
    group.finish();
}

criterion_group!(benches, speed);
criterion_main!(benches);
