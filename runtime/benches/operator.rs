//! The generic operator over rows, on one thread: against reading memory for one vector, and
//! against dense matrix products in f32 for a batch.
//!
//! `int8 … vector` counts the bytes of the codes; compare it with `read`. `… batch` counts
//! multiplications; compare it with `faer f32` and `ndarray f32`.

use std::hint::black_box;
use std::sync::Arc;

use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Inputs, LinearOp, Product, Registry, TensorView};
use codecs as _;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// The codes of an int8 matrix with so many rows, 512 MiB, do not fit into a cache.
const ROWS: usize = 131_072;
const COLUMNS: usize = 4096;
const BATCH: usize = 64;

fn noise(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn operators(rows: usize) -> Vec<(&'static str, Box<dyn LinearOp>)> {
    let registry = Registry::linked().expect("all codecs");
    let weights = noise(rows * COLUMNS);
    let view = TensorView::from_f32([rows, COLUMNS], &weights).expect("a matrix");
    let specs = [("int8", "quant.int:bits=8"), ("q4_0", "quant.q4_0"), ("bf16", "quant.cast:to=bf16")];
    specs
        .map(|(name, spec)| {
            let codec = registry.parse_spec(spec).expect("a codec");
            let encoded =
                EncodedTensor::encode(Arc::clone(&codec), view.clone(), &EncodeCx::new(0)).expect("a payload");
            (name, runtime::operator(&encoded, &DecodeCx::new()).expect("an operator"))
        })
        .into()
}

/// One vector: bound by the memory that the codes are read from.
fn vector(c: &mut Criterion) {
    let mut group = c.benchmark_group("vector");
    let bytes: Vec<u64> = vec![1; ROWS * COLUMNS / 8];
    group.throughput(Throughput::Bytes((ROWS * COLUMNS) as u64));
    group.bench_function("read", |b| {
        b.iter(|| black_box(&bytes).iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
    });
    for (name, operator) in operators(ROWS) {
        group.throughput(Throughput::Bytes(operator.resident_bytes()));
        for (product, inputs, outputs) in [(Product::Forward, COLUMNS, ROWS), (Product::Transposed, ROWS, COLUMNS)] {
            let (x, mut y) = (noise(inputs), vec![0.0; outputs]);
            let x = Inputs::new(&x, 1).expect("a vector");
            group.bench_function(BenchmarkId::new(name, format!("{product:?}")), |b| {
                b.iter(|| operator.apply(product, 0..ROWS, &x, black_box(&mut y)).expect("a product"));
            });
        }
    }
    group.finish();
}

/// A batch: bound by arithmetic.
fn batch(c: &mut Criterion) {
    const ROWS: usize = 4096;
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements((ROWS * COLUMNS * BATCH) as u64)).sample_size(10);
    let (w, x) = (noise(ROWS * COLUMNS), noise(BATCH * COLUMNS));
    group.bench_function("faer f32", |b| {
        let w = MatRef::from_row_major_slice(&w, ROWS, COLUMNS);
        let x = MatRef::from_row_major_slice(&x, BATCH, COLUMNS);
        let mut y = Mat::<f32>::zeros(ROWS, BATCH);
        b.iter(|| matmul(black_box(&mut y), Accum::Replace, w, x.transpose(), 1.0, Par::Seq));
    });
    group.bench_function("ndarray f32", |b| {
        use codec_api::ndarray::{Array2, ArrayView2, linalg::general_mat_mul};
        let w = ArrayView2::from_shape((ROWS, COLUMNS), &w).expect("a matrix");
        let x = ArrayView2::from_shape((BATCH, COLUMNS), &x).expect("a matrix");
        let mut y = Array2::zeros((ROWS, BATCH));
        b.iter(|| general_mat_mul(1.0, &w, &x.t(), 0.0, black_box(&mut y)));
    });
    for (name, operator) in operators(ROWS) {
        for product in [Product::Forward, Product::Transposed] {
            let (inputs, mut y) = (Inputs::new(&x, BATCH).expect("a batch"), vec![0.0; ROWS * BATCH]);
            group.bench_function(BenchmarkId::new(name, format!("{product:?}")), |b| {
                b.iter(|| operator.apply(product, 0..ROWS, &inputs, black_box(&mut y)).expect("a product"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, vector, batch);
criterion_main!(benches);
