//! Operators for single vectors, on two threads, beside the generic one over decoded rows.
//!
//! The matrices are those of the layers of GPT-2, with rows as outputs, and copies of them: 48
//! layers, whose dense weights of 0.68 GB are larger than the caches. Throughput is in weights, so
//! that the figures are proportional to tokens per second.

use std::hint::black_box;
use std::time::Duration;

use codec_api::util::narrow;
use codec_api::{
    Bytes, DecodeCx, Dtype, EncodeCx, EncodedTensor, Inputs, LinearOp, Payload, Product, Registry, Section, TensorSpec,
    TensorView,
};
use codecs as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runtime::RowsMatrix;

/// Rows and columns of the matrices of a layer.
const LAYER: [(usize, usize); 4] = [(2304, 768), (768, 768), (3072, 768), (768, 3072)];
const LAYERS: usize = 48;
const THREADS: usize = 2;
const SPECS: [&str; 5] = [
    "lossless.bf16x12",
    "quant.ternary:packing=trits",
    "quant.ternary:packing=lanes",
    "trellis.bitshift:bits=2:state_bits=10",
    "trellis.bitshift:bits=4:state_bits=10:code=1mad",
];

/// Bell-shaped weights in BF16.
fn weights(n: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..n).map(|_| next() + next() + next() + next()).collect();
    let mut bytes = vec![0; 2 * n];
    narrow(Dtype::BF16, &values, &mut bytes).expect("lengths fit");
    bytes
}

fn spec((rows, columns): (usize, usize)) -> TensorSpec {
    TensorSpec::new(Dtype::BF16, [rows, columns]).expect("a matrix")
}

fn encoded(registry: &Registry, codec: &str) -> Vec<EncodedTensor> {
    let encode = |&shape: &(usize, usize)| {
        let bytes = weights(shape.0 * shape.1);
        let view = TensorView::new(spec(shape), &bytes).expect("bytes fit");
        EncodedTensor::encode(registry.parse_spec(codec).expect("a codec"), view, &EncodeCx::new(0)).expect("a payload")
    };
    LAYER.iter().map(encode).collect()
}

/// The tensor in memory of its own.
fn copy(encoded: &EncodedTensor) -> EncodedTensor {
    let mut copy = encoded.clone();
    copy.payload = Payload::new();
    for (name, section) in encoded.payload.sections() {
        let data = Bytes::copy_from_slice(section.data());
        let section = Section::new(section.spec().dtype(), section.spec().shape(), data).expect("the same section");
        copy.payload = copy.payload.with(name, section).expect("a new name");
    }
    copy
}

/// Multiplies all matrices with a vector; each thread computes a part of the outputs.
fn multiply(pool: &rayon::ThreadPool, all: &[Box<dyn LinearOp>], x: &[f32], y: &mut [f32]) {
    for operator in all {
        let (rows, columns) = operator.shape();
        let (x, part) = (Inputs::new(&x[..columns], 1).expect("a vector"), rows / THREADS);
        let x = &x;
        pool.scope(|scope| {
            for (i, y) in y[..rows].chunks_mut(part).enumerate() {
                let range = i * part..i * part + y.len();
                scope.spawn(move |_| operator.apply(Product::Forward, range, x, y).expect("a product"));
            }
        });
    }
}

fn vectors(c: &mut Criterion) {
    let registry = Registry::linked().expect("all codecs");
    let mut group = c.benchmark_group("vectors");
    let weights_of_all = LAYERS * LAYER.iter().map(|(rows, columns)| rows * columns).sum::<usize>();
    group.throughput(Throughput::Elements(weights_of_all as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().expect("a pool");
    let (x, mut y) = (vec![0.7; 3072], vec![0.0; 3072]);
    let mut run = |name: &str, all: &[Box<dyn LinearOp>]| {
        group.bench_function(name, |b| b.iter(|| multiply(&pool, black_box(all), &x, &mut y)));
    };
    let dense = |&shape: &(usize, usize)| {
        let bytes = weights(shape.0 * shape.1);
        runtime::dense_operator(&TensorView::new(spec(shape), &bytes).expect("bytes fit")).expect("an operator")
    };
    run("dense bf16", &(0..LAYERS).flat_map(|_| LAYER.iter().map(dense)).collect::<Vec<_>>());
    for codec in SPECS {
        let once = encoded(&registry, codec);
        let all: Vec<EncodedTensor> = (0..LAYERS).flat_map(|_| once.iter().map(copy)).collect();
        let rows = |encoded: &EncodedTensor| -> Box<dyn LinearOp> {
            Box::new(RowsMatrix::new(encoded.open_rows(&DecodeCx::new()).expect("rows")))
        };
        let own = |encoded: &EncodedTensor| runtime::operator(encoded, &DecodeCx::new()).expect("an operator");
        run(&format!("{codec}, decoded rows"), &all.iter().map(rows).collect::<Vec<_>>());
        run(&format!("{codec}, operator"), &all.iter().map(own).collect::<Vec<_>>());
    }
    group.finish();
}

criterion_group!(benches, vectors);
criterion_main!(benches);
