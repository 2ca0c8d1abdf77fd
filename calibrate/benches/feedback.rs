//! Feedback over matrices: a pass over all of a small GPT-2, and a large layer beside the matrix
//! product with as many multiplications.
//!
//! Curvatures are those of seeded vectors that depend on each other. One thread.

use std::hint::black_box;
use std::time::Duration;

use calibrate::{Curvature, Factor, feedback};
use codec_api::{EncodeCx, InputAxis, Registry, TensorView};
use codecs as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Outputs and inputs of the matrices of a GPT-2 with six layers of width 256, and how many have
/// this shape.
const SMALL: [(usize, usize, usize); 5] =
    [(768, 256, 6), (256, 256, 6), (1024, 256, 6), (256, 1024, 6), (4096, 256, 1)];

/// Rows and columns of the large layer.
const LARGE: usize = 4096;

/// Numbers from −1 to 1, the same on every run.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// `E[x xᵀ]` of vectors in which neighbours are alike.
fn curvature(order: usize) -> Factor {
    let tokens = 2 * order;
    let mut x = noise(tokens * order);
    for x in x.chunks_exact_mut(order) {
        (1..order).for_each(|i| x[i] += 0.7 * x[i - 1]);
    }
    let mut sums = vec![0.0; order * order];
    let view = MatRef::from_row_major_slice(&x, tokens, order);
    let target = MatMut::from_row_major_slice_mut(&mut sums, order, order);
    matmul(target, Accum::Replace, view.transpose(), view, 1.0 / tokens as f32, Par::Seq);
    Factor::new(&sums, order, 0.01).expect("a factor")
}

fn small(c: &mut Criterion) {
    let registry = Registry::linked().expect("a registry");
    let codec = registry.parse_spec("trellis.columns:states=64:step=0.02").expect("a codec");
    let made = SMALL.map(|(m, n, count)| (m, n, count, noise(m * n), curvature(n), curvature(m)));
    let mut group = c.benchmark_group("feedback");
    group.throughput(Throughput::Elements(made.iter().map(|(m, n, count, ..)| (m * n * count) as u64).sum()));
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    group.bench_function("gpt2-mini, trellis.columns", |b| {
        b.iter(|| {
            for (m, n, count, values, inputs, outputs) in &made {
                for _ in 0..*count {
                    let tensor = TensorView::from_f32([*m, *n], values).expect("a tensor");
                    let of = Curvature { axis: InputAxis::Columns, inputs, outputs };
                    black_box(feedback(&*codec, &tensor, of, &EncodeCx::default()).expect("a payload"));
                }
            }
        });
    });
    group.finish();
}

fn large(c: &mut Criterion) {
    let registry = Registry::linked().expect("a registry");
    let codec = registry.parse_spec("quant.int:bits=4:group=128").expect("a codec");
    let (values, curvature) = (noise(LARGE * LARGE), curvature(LARGE));
    let tensor = TensorView::from_f32([LARGE, LARGE], &values).expect("a tensor");
    let mut group = c.benchmark_group("4096 x 4096");
    // Half of a product for each axis, as the factors are triangular.
    group.throughput(Throughput::Elements((LARGE * LARGE * LARGE) as u64));
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    group.bench_function("plain encode", |b| {
        b.iter(|| black_box(codec.encode(tensor.clone(), &EncodeCx::default()).expect("a payload")));
    });
    group.bench_function("feedback", |b| {
        let of = Curvature { axis: InputAxis::Columns, inputs: &curvature, outputs: &curvature };
        // On a thread of the pool, as commands call it.
        rayon::scope(|_| {
            b.iter(|| black_box(feedback(&*codec, &tensor, of, &EncodeCx::default()).expect("a payload")));
        });
    });
    group.bench_function("product of faer", |b| {
        let mut out = vec![0.0; LARGE * LARGE];
        let view = MatRef::from_row_major_slice(&values, LARGE, LARGE);
        b.iter(|| {
            let target = MatMut::from_row_major_slice_mut(black_box(&mut out), LARGE, LARGE);
            matmul(target, Accum::Replace, view, view, 1.0, Par::Seq);
        });
    });
    group.finish();
}

fn benches(c: &mut Criterion) {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("a thread");
    small(c);
    large(c);
}

criterion_group!(all, benches);
criterion_main!(all);
