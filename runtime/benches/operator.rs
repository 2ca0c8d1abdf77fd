//! Operators on the matrices of GPT-2, beside reading memory and beside dense products in f32.
//!
//! `token/…` multiplies all matrices of GPT-2 with one vector, as for a token: the time is that of
//! reading the weights. Throughput is in bytes of resident weights; compare it with `read`, which
//! sums up an array that no cache holds. `prefill/…` multiplies the matrices of a layer with 128
//! vectors, on one thread, or with 64 of them on each of two threads. The product of dense weights
//! is that of the crate `faer`. `bare` calls it with each layout of weights and outputs, into
//! memory that is there already; compare the best of them with `dense f32`.

use std::hint::black_box;
use std::sync::Arc;

use codec_api::{DecodeCx, EncodeCx, EncodedTensor, Inputs, LinearOp, Product, Registry, TensorView};
use codecs as _;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

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

/// Matrices as the decoder keeps dense ones: `Conv1D` is transposed.
fn dense(matrices: &[(usize, usize, Product)]) -> Vec<Operator> {
    let prepare = |&(rows, columns, product): &(usize, usize, Product)| {
        let ((inputs, outputs), weights) = (product.sides((rows, columns)), noise(rows * columns));
        let view = TensorView::from_f32([outputs, inputs], &weights).expect("a matrix");
        (runtime::dense_operator(&view).expect("an operator"), Product::Forward)
    };
    matrices.iter().map(prepare).collect()
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

/// A way to call faer for the product of some vectors with the weights of a layer.
#[derive(Clone, Copy)]
struct Layout {
    name: &'static str,
    /// Rows of the weights are inputs, as in a `Conv1D`; otherwise outputs.
    inputs_first: bool,
    /// The outputs of a vector lie together; otherwise those of all vectors.
    by_vector: bool,
}

impl Layout {
    const ALL: [Self; 4] = [
        Self { name: "inputs, by vector", inputs_first: true, by_vector: true },
        Self { name: "inputs, by output", inputs_first: true, by_vector: false },
        Self { name: "outputs, by vector", inputs_first: false, by_vector: true },
        Self { name: "outputs, by output", inputs_first: false, by_vector: false },
    ];

    /// The product `y = x·w`, with `inputs × outputs` weights.
    fn multiply(self, (inputs, outputs): (usize, usize), w: &[f32], x: &[f32], y: &mut [f32]) {
        let batch = x.len() / inputs;
        let w = if self.inputs_first {
            MatRef::from_row_major_slice(w, inputs, outputs)
        } else {
            MatRef::from_column_major_slice(w, inputs, outputs)
        };
        let y = if self.by_vector {
            MatMut::from_column_major_slice_mut(y, outputs, batch).transpose_mut()
        } else {
            MatMut::from_column_major_slice_mut(y, batch, outputs)
        };
        matmul(y, Accum::Replace, MatRef::from_row_major_slice(x, batch, inputs), w, 1.0, Par::Seq);
    }
}

/// Runs `work` with the vectors of each thread and space for their outputs.
fn shared(threads: usize, x: &[f32], y: &mut [f32], work: impl Fn(&[f32], &mut [f32]) + Sync) {
    if threads == 1 {
        return work(x, y);
    }
    let parts = x.chunks_exact(x.len() / threads).zip(y.chunks_exact_mut(y.len() / threads));
    rayon::scope(|scope| parts.for_each(|(x, y)| scope.spawn(|_| work(x, y))));
}

/// Products of a layer, or of the head, with [`BATCH`] vectors that the threads share.
fn prefill_of(c: &mut Criterion, what: &str, matrices: &[(usize, usize, Product)], specs: &[(&str, &str)]) {
    let sides: Vec<_> = matrices.iter().map(|(rows, columns, product)| product.sides((*rows, *columns))).collect();
    let mut group = c.benchmark_group(what);
    let products: usize = sides.iter().map(|(inputs, outputs)| inputs * outputs * BATCH).sum();
    group.throughput(Throughput::Elements(products as u64)).sample_size(10);
    let most = sides.iter().map(|(_, outputs)| *outputs).max().unwrap_or_default();
    let (x, mut y) = (noise(3072 * BATCH), vec![0.0; most * BATCH]);
    let weights: Vec<_> = sides.iter().map(|(inputs, outputs)| noise(inputs * outputs)).collect();
    for threads in [1, 2] {
        for layout in Layout::ALL {
            group.bench_function(BenchmarkId::new(format!("bare, {}", layout.name), threads), |b| {
                b.iter(|| {
                    for (&(inputs, outputs), w) in sides.iter().zip(&weights) {
                        shared(threads, &x[..inputs * BATCH], &mut y[..outputs * BATCH], |x, y| {
                            layout.multiply((inputs, outputs), w, x, black_box(y));
                        });
                    }
                });
            });
        }
        let mut run = |name: &str, make: &dyn Fn() -> Vec<Operator>| {
            group.bench_function(BenchmarkId::new(name, threads), |b| {
                let all = make();
                b.iter(|| {
                    for (operator, product) in &all {
                        let (inputs, outputs) = product.sides(operator.shape());
                        shared(threads, &x[..inputs * BATCH], &mut y[..outputs * BATCH], |x, y| {
                            let x = Inputs::new(x, x.len() / inputs).expect("vectors");
                            operator.apply_vectors(*product, 0..outputs, &x, y, outputs).expect("a product");
                        });
                    }
                });
            });
        };
        run("dense f32", &|| dense(matrices));
        for (name, spec) in specs {
            run(name, &|| operators(spec, matrices));
        }
    }
    group.finish();
}

fn prefill(c: &mut Criterion) {
    prefill_of(c, "prefill", &LAYER, &SPECS);
    prefill_of(c, "prefill head", &[HEAD], &[]);
}

criterion_group!(benches, token, prefill);
criterion_main!(benches);
