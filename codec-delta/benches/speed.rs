//! Encode and decode of the deltas on 64 MiB of Gaussian f32 and a base one per cent off, beside a memcpy of the same output.
//!
//! Throughput counts dense f32 bytes everywhere, so rows compare directly. The base's blake3 is taken beforehand.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{BaseTensor, EncodeCx, Registry, TensorView};
use codec_delta as _;
use codec_quant as _;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};

const ROWS: usize = 4096;
const COLUMNS: usize = 4096;

const SPECS: [&str; 2] = ["delta.sign", "delta(quant.int:bits=4:group=128:symmetric=false)"];

/// Sums of uniforms are close enough to Gaussian for a speed test.
fn gaussian(seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..ROWS * COLUMNS).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 1.414).collect()
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes((4 * ROWS * COLUMNS) as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

fn benches(c: &mut Criterion) {
    let base = gaussian(1);
    let weights: Vec<f32> = base.iter().zip(gaussian(2)).map(|(b, d)| b + 0.01 * d).collect();
    let [tensor, base] = [&weights, &base].map(|v| TensorView::from_f32([ROWS, COLUMNS], v).expect("the shape fits"));
    let cx = EncodeCx::new(0).with_base(BaseTensor::new(base));
    let registry = Registry::linked().expect("codec-delta is linked");
    let mut out = vec![0.0f32; weights.len()];
    let codecs = SPECS.map(|spec| (spec, registry.parse_spec(spec).expect("a valid spec")));
    let mut decode = group(c, "decode");
    decode.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&weights))));
    for (spec, codec) in &codecs {
        let payload = codec.encode(tensor.clone(), &cx).expect("it encodes");
        let decode_cx = cx.decoding();
        decode.bench_function(*spec, |b| {
            b.iter(|| {
                codec.decode(tensor.spec(), payload.view(), &decode_cx, black_box(&mut out)).expect("it decodes");
            });
        });
    }
    drop(decode);
    let mut encode = group(c, "encode");
    for (spec, codec) in &codecs {
        encode.bench_function(*spec, |b| b.iter(|| codec.encode(black_box(tensor.clone()), &cx).expect("it encodes")));
    }
}

criterion_group!(speed, benches);
criterion_main!(speed);
