//! Operators on the matrices of GPT-2, beside reading memory and beside dense products in f32.
//!
//! `token/…` multiplies all matrices of GPT-2 with one vector, as for a token: the time is that of
//! reading the weights. Throughput is in bytes of resident weights; compare it with `read`, which
//! sums up an array that no cache holds. `prefill/…` multiplies the matrices of a layer with 128
//! vectors, on one thread; compare it with `faer f32`.

use std::hint::black_box;
use std::sync::Arc;

use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Inputs, LinearOp, Product, Registry, TensorView};
use codecs as _;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// Rows, columns and product of the matrices of a layer.
const LAYER: [(usize, usize, Product); 4] = [
    (768, 2304, Product::Transposed),
    (768, 768, Product::Transposed),
    (768, 3072, Product::Transposed),
    (3072, 768, Product::Transposed),
];
const HEAD: (usize, usize, Product) = (50257, 768, Product::Forward);
const LAYERS: usize = 12;
const BATCH: usize = 128;
const SPECS: [(&str, &str); 6] = [
    ("f32", "lossless.raw"),
    ("int8", "quant.int:bits=8"),
    ("int4", "quant.int:bits=4:group=128:symmetric=false"),
    ("q8_0", "quant.q8_0"),
    ("q4_0", "quant.q4_0"),
    ("q4_k", "quant.q4_k"),
];

fn noise(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// An operator, and the product that it is for.
type Operator = (Box<dyn LinearOp>, Product);

fn operators(spec: &str, matrices: &[(usize, usize, Product)]) -> Vec<Operator> {
    let registry = Registry::linked().expect("all codecs");
    let prepare = |&(rows, columns, product): &(usize, usize, Product)| {
        let weights = noise(rows * columns);
        let view = TensorView::from_f32([rows, columns], &weights).expect("a matrix");
        let codec = registry.parse_spec(spec).expect("a codec");
        let encoded = EncodedTensor::encode(Arc::clone(&codec), view, &EncodeCx::new(0)).expect("a payload");
        (runtime::operator(&encoded, &DecodeCx::new().for_product(product)).expect("an operator"), product)
    };
    matrices.iter().map(prepare).collect()
}

/// The matrices of a layer as the decoder keeps dense ones: `Conv1D` is transposed.
fn dense() -> Vec<Operator> {
    let prepare = |&(rows, columns, _): &(usize, usize, Product)| {
        let weights = noise(rows * columns);
        let view = TensorView::from_f32([columns, rows], &weights).expect("a matrix");
        (runtime::dense_operator(&view).expect("an operator"), Product::Forward)
    };
    LAYER.iter().map(prepare).collect()
}

/// One product, its outputs shared by the threads.
fn multiply(pool: &rayon::ThreadPool, (operator, product): &Operator, x: &Inputs<'_>, y: &mut [f32]) {
    let (threads, outputs) = (pool.current_num_threads(), y.len() / x.batch());
    if threads == 1 {
        return operator.apply_outputs(*product, 0..outputs, x, y).expect("a product");
    }
    if operator.shares_outputs(*product) {
        let part = outputs.div_ceil(threads).next_multiple_of(64);
        pool.scope(|scope| {
            for (i, y) in y.chunks_mut(part * x.batch()).enumerate() {
                let range = i * part..(i * part + part).min(outputs);
                scope.spawn(move |_| operator.apply_outputs(*product, range, x, y).expect("a product"));
            }
        });
        return;
    }
    // Each thread has its own outputs.
    let rows = operator.shape().0;
    let range = |i: usize| i * rows / threads..(i + 1) * rows / threads;
    let mut parts = vec![vec![0.0; y.len()]; threads];
    pool.scope(|scope| {
        for (i, y) in parts.iter_mut().enumerate() {
            scope.spawn(move |_| operator.apply(*product, range(i), x, y).expect("a product"));
        }
    });
    for (i, y) in y.iter_mut().enumerate() {
        *y = parts.iter().map(|part| part[i]).sum();
    }
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool")
}

/// The sum of an array of 2 GiB, each thread a part.
fn read(pool: &rayon::ThreadPool, words: &[u64]) -> u64 {
    use rayon::prelude::*;
    let part = words.len() / pool.current_num_threads();
    pool.install(|| words.par_chunks(part).map(|part| part.iter().fold(0u64, |sum, w| sum.wrapping_add(*w))).sum())
}

fn token(c: &mut Criterion) {
    let mut group = c.benchmark_group("token");
    group.sample_size(10);
    let pools = [pool(1), pool(2)];
    {
        let words = vec![1u64; 1 << 28];
        group.throughput(Throughput::Bytes(8 << 28));
        for pool in &pools {
            group.bench_function(BenchmarkId::new("read", pool.current_num_threads()), |b| {
                b.iter(|| read(pool, black_box(&words)));
            });
        }
    }
    for (name, spec) in SPECS {
        let mut all: Vec<Operator> = (0..LAYERS).flat_map(|_| operators(spec, &LAYER)).collect();
        all.extend(operators(spec, &[HEAD]));
        group.throughput(Throughput::Bytes(all.iter().map(|(operator, _)| operator.resident_bytes()).sum()));
        for pool in &pools {
            group.bench_function(BenchmarkId::new(name, pool.current_num_threads()), |b| {
                let (x, mut y) = (noise(3072), vec![0.0; 50257]);
                b.iter(|| {
                    for operator in &all {
                        let (inputs, outputs) = operator.1.sides(operator.0.shape());
                        multiply(pool, operator, &Inputs::new(&x[..inputs], 1).expect("a vector"), &mut y[..outputs]);
                    }
                });
            });
        }
    }
    group.finish();
}

fn prefill(c: &mut Criterion) {
    let mut group = c.benchmark_group("prefill");
    let products: usize = LAYER.iter().map(|(rows, columns, _)| rows * columns * BATCH).sum();
    group.throughput(Throughput::Elements(products as u64)).sample_size(10);
    let x = noise(3072 * BATCH);
    group.bench_function("faer f32", |b| {
        let weights = LAYER.map(|(rows, columns, _)| noise(rows * columns));
        b.iter(|| {
            for ((rows, columns, _), w) in LAYER.iter().zip(&weights) {
                let w = MatRef::from_row_major_slice(w, *rows, *columns);
                let x = MatRef::from_row_major_slice(&x[..rows * BATCH], BATCH, *rows);
                let mut y = Mat::<f32>::zeros(BATCH, *columns);
                matmul(black_box(&mut y), Accum::Replace, x, w, 1.0, Par::Seq);
            }
        });
    });
    let mut run = |name: &str, make: &dyn Fn() -> Vec<Operator>| {
        group.bench_function(name, |b| {
            let (all, mut y) = (make(), vec![0.0; 3072 * BATCH]);
            b.iter(|| {
                for (operator, product) in &all {
                    let (inputs, outputs) = product.sides(operator.shape());
                    let x = Inputs::new(&x[..inputs * BATCH], BATCH).expect("vectors");
                    let y = &mut y[..outputs * BATCH];
                    operator.apply_vectors(*product, 0..outputs, &x, y, outputs).expect("a product");
                }
            });
        });
    };
    run("dense f32", &dense);
    for (name, spec) in SPECS {
        run(name, &|| operators(spec, &LAYER));
    }
    group.finish();
}

criterion_group!(benches, token, prefill);
criterion_main!(benches);
