//! Encode and decode of the deltas on 4096 × 4096 Gaussian weights and a slightly different base,
//! beside a memcpy of the same output.
//!
//! Throughput counts stored bytes of the tensor: f32 for the lossy codecs, bf16 for the exact one.
//! The base's blake3 is computed beforehand.

use std::hint::black_box;
use std::time::Duration;

use codec_api::{BaseTensor, Codec, Dtype, EncodeCx, Registry, TensorSpec, TensorView};
use codec_delta as _;
use codec_quant as _;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use half::bf16;

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

fn group<'a>(c: &'a mut Criterion, name: &str, width: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes((width * ROWS * COLUMNS) as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

fn lossy(c: &mut Criterion) {
    let base = gaussian(1);
    let weights: Vec<f32> = base.iter().zip(gaussian(2)).map(|(b, d)| b + 0.01 * d).collect();
    let [tensor, base] = [&weights, &base].map(|v| TensorView::from_f32([ROWS, COLUMNS], v).expect("the shape fits"));
    let cx = EncodeCx::new(0).with_base(BaseTensor::new(base));
    let registry = Registry::linked().expect("codec-delta is linked");
    let mut out = vec![0.0f32; weights.len()];
    let codecs = SPECS.map(|spec| (spec, registry.parse_spec(spec).expect("a valid spec")));
    let mut decode = group(c, "decode", 4);
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
    let mut encode = group(c, "encode", 4);
    for (spec, codec) in &codecs {
        encode.bench_function(*spec, |b| b.iter(|| codec.encode(black_box(tensor.clone()), &cx).expect("it encodes")));
    }
}

/// Benchmarks the exact codec; the differences have this many standard deviations of the weights.
fn exact(c: &mut Criterion) {
    let (base, difference) = (gaussian(1), gaussian(2));
    let spec = TensorSpec::new(Dtype::BF16, [ROWS, COLUMNS]).expect("a valid shape");
    let stored = |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
        values.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect()
    };
    let base_bytes = stored(&mut base.iter().copied());
    let base_view = TensorView::new(spec.clone(), &base_bytes).expect("the shape fits");
    let cx = EncodeCx::new(0).with_base(BaseTensor::new(base_view));
    let codec = codec_delta::ExactDelta::default();
    let lossless = codec.as_lossless().expect("it is lossless");
    let mut out = vec![0; base_bytes.len()];
    let mut group = group(c, "exact", 2);
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(black_box(&base_bytes))));
    for r in [0.001, 0.01] {
        let bytes = stored(&mut base.iter().zip(&difference).map(|(b, d)| b + r * d));
        let tensor = TensorView::new(spec.clone(), &bytes).expect("the shape fits");
        let payload = codec.encode(tensor.clone(), &cx).expect("it encodes");
        let decode_cx = cx.decoding();
        group.bench_function(format!("decode r={r}"), |b| {
            b.iter(|| lossless.decode_bytes(&spec, payload.view(), &decode_cx, black_box(&mut out)));
        });
        group.bench_function(format!("encode r={r}"), |b| b.iter(|| codec.encode(black_box(tensor.clone()), &cx)));
    }
}

criterion_group!(speed, lossy, exact);
criterion_main!(speed);
