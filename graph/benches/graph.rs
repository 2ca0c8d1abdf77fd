//! Evaluation beside code written by hand for the same expression, in one run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use graph::{Graph, Node};
use rayon::prelude::*;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let graph = Graph::new();
    let node = graph.random([n], seed, 1.0).expect("a small shape");
    graph.eval(node).expect("random numbers").values().to_vec()
}

fn array(graph: &Graph, shape: &[usize], values: &[f32]) -> Node {
    graph.array(shape, values).expect("a shape that fits")
}

/// `out = accum·out + scale·a·b`, rows shared among the threads.
fn product(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], accum: Accum, scale: f32, out: &mut [f32]) {
    let rows = m.div_ceil(rayon::current_num_threads());
    let b = MatRef::from_row_major_slice(b, k, n);
    a.par_chunks(rows * k).zip(out.par_chunks_mut(rows * n)).for_each(|(a, out)| {
        let m = a.len() / k;
        let a = MatRef::from_row_major_slice(a, m, k);
        matmul(MatMut::from_row_major_slice_mut(out, m, n), accum, a, b, scale, Par::Seq);
    });
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group
}

fn evaluated(group: &mut BenchmarkGroup<'_, WallTime>, graph: &Graph, node: Node) {
    group.bench_function("graph", |b| b.iter(|| graph.eval(black_box(node)).expect("an evaluation")));
}

/// `((A+B)·2)·C + A`.
fn memory(criterion: &mut Criterion) {
    const N: usize = 2000;
    let values = [1, 2, 3].map(|seed| numbers(N * N, seed));
    let graph = Graph::new();
    let [a, b, c] = [0, 1, 2].map(|i| array(&graph, &[N, N], &values[i]));
    let build = || {
        let sum = graph.scale(graph.add(a, b)?, 2.0)?;
        graph.add(graph.matmul(sum, c)?, a)
    };
    let mut group = group(criterion, "memory");
    group.sample_size(10).measurement_time(Duration::from_secs(6));
    evaluated(&mut group, &graph, build().expect("shapes fit"));
    group.bench_function("by hand", |bench| {
        bench.iter(|| {
            let [a, b, c] = &values;
            let sum: Vec<f32> = a.iter().zip(b).map(|(a, b)| (a + b) * 2.0).collect();
            let mut out = a.clone();
            product(&sum, c, [N; 3], Accum::Add, 1.0, &mut out);
            out
        });
    });
}

fn overhead(criterion: &mut Criterion) {
    let values: Arc<[f32]> = numbers(1024, 1).into();
    let mut group = group(criterion, "build of 11 nodes");
    group.bench_function("graph", |bench| {
        bench.iter_batched(
            || {
                let graph = Graph::new();
                let leaf = graph.array([1024], Arc::clone(&values)).expect("a shape that fits");
                (graph, leaf)
            },
            |(graph, leaf)| {
                let node = (1..=11).try_fold(leaf, |node, i| graph.scale(node, i as f32));
                (graph, node.expect("shapes fit"))
            },
            // Few graphs, which stay in the caches.
            criterion::BatchSize::NumIterations(16),
        );
    });
    drop(group);
    let graph = Graph::new();
    let leaf = array(&graph, &[1024], &values);
    let chain = (0..10).try_fold(leaf, |node, i| graph.scale(node, 1.0 + i as f32 / 7.0)).expect("shapes fit");
    let mut group = self::group(criterion, "ten scalings of 1024");
    evaluated(&mut group, &graph, chain);
    group.bench_function("by hand", |bench| {
        bench.iter(|| {
            let factors: [f32; 10] = std::array::from_fn(|i| 1.0 + i as f32 / 7.0);
            black_box(&values).iter().map(|v| factors.iter().fold(*v, |v, f| v * f)).collect::<Vec<f32>>()
        });
    });
}

fn lora(criterion: &mut Criterion) {
    const SIZES: [[usize; 2]; 4] = [[64, 512], [512, 512], [512, 8], [8, 512]];
    let values: Vec<_> = SIZES.iter().zip(1..).map(|(shape, seed)| numbers(shape[0] * shape[1], seed)).collect();
    let graph = Graph::new();
    let x = array(&graph, &[4, 16, 512], &values[0]);
    let [w, a, b] = [1, 2, 3].map(|i| array(&graph, &SIZES[i], &values[i]));
    let node = graph.lora_forward(x, w, a, b, 2.0).expect("shapes fit");
    let mut group = group(criterion, "LoRA");
    evaluated(&mut group, &graph, node);
    group.bench_function("eager", |bench| {
        bench.iter(|| {
            let zeros = |len| vec![0.0f32; len];
            let (mut dense, mut inner, mut delta) = (zeros(64 * 512), zeros(64 * 8), zeros(64 * 512));
            product(&values[0], &values[1], [64, 512, 512], Accum::Replace, 1.0, &mut dense);
            product(&values[0], &values[2], [64, 512, 8], Accum::Replace, 1.0, &mut inner);
            product(&inner, &values[3], [64, 8, 512], Accum::Replace, 1.0, &mut delta);
            let scaled: Vec<f32> = delta.iter().map(|v| 2.0 * v).collect();
            dense.iter().zip(&scaled).map(|(a, b)| a + b).collect::<Vec<f32>>()
        });
    });
    group.bench_function("by hand", |bench| {
        bench.iter(|| {
            let (mut out, mut inner) = (vec![0.0; 64 * 512], vec![0.0; 64 * 8]);
            product(&values[0], &values[1], [64, 512, 512], Accum::Replace, 1.0, &mut out);
            product(&values[0], &values[2], [64, 512, 8], Accum::Replace, 1.0, &mut inner);
            product(&inner, &values[3], [64, 8, 512], Accum::Add, 2.0, &mut out);
            out
        });
    });
}

fn rows(criterion: &mut Criterion) {
    let (values, weights) = (numbers(128 * 1024, 1), numbers(1024, 2));
    let graph = Graph::new();
    let x = array(&graph, &[1, 128, 1024], &values);
    let w = array(&graph, &[1024], &weights);
    let nodes = [("softmax", graph.softmax(x)), ("RMS norm", graph.rms_norm(x, w, 1e-6))];
    for (name, node) in nodes {
        let mut group = group(criterion, name);
        group.throughput(Throughput::Bytes(2 * 4 * 128 * 1024));
        evaluated(&mut group, &graph, node.expect("shapes fit"));
        group.bench_function("copy", |bench| bench.iter(|| black_box(&values).clone()));
    }
}

criterion_group!(benches, memory, overhead, lora, rows);
criterion_main!(benches);
