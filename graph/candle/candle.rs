//! The weight graph beside candle, in one run.
//!
//! "candle" is candle's composition of its primitive operations, "candle, fused" its own kernel for
//! the whole operation, where it has one.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{D, Device, Result, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use graph::{Graph, Node};

/// The same numbers for both.
struct Both {
    graph: Graph,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
}

impl Both {
    fn new(shapes: &[&[usize]]) -> Self {
        let graph = Graph::new();
        let (mut tensors, mut nodes) = (Vec::new(), Vec::new());
        for (shape, seed) in shapes.iter().zip(1..) {
            let random = graph.random(*shape, seed, 1.0).expect("a small shape");
            let values = graph.eval(random).expect("random numbers").values().to_vec();
            nodes.push(graph.array(*shape, &values[..]).expect("a shape that fits"));
            tensors.push(Tensor::from_vec(values, *shape, &Device::Cpu).expect("a shape that fits"));
        }
        Self { graph, tensors, nodes }
    }

    /// Measures both, after a comparison of their values.
    fn measure(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        node: Node,
        candle: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) {
        let ours = self.graph.eval(node).expect("an evaluation");
        let theirs = candle(&self.tensors).and_then(|t| t.flatten_all()?.to_vec1::<f32>()).expect("an evaluation");
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
        assert!(ours.values().len() == theirs.len() && ours.values().iter().zip(&theirs).all(near));
        group.bench_function("graph", |b| b.iter(|| self.graph.eval(black_box(node)).expect("an evaluation")));
        self.theirs(group, "candle", candle);
    }

    fn theirs(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: &str,
        candle: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) {
        group.bench_function(name, |b| b.iter(|| candle(black_box(&self.tensors)).expect("an evaluation")));
    }
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(30).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group
}

fn lora(criterion: &mut Criterion) {
    let both = Both::new(&[&[4, 16, 512], &[512, 512], &[512, 8], &[8, 512]]);
    let [x, w, a, b] = [0, 1, 2, 3].map(|i| both.nodes[i]);
    let node = both.graph.lora_forward(x, w, a, b, 2.0).expect("shapes fit");
    both.measure(&mut group(criterion, "LoRA"), node, |tensors| {
        let [x, w, a, b] = [0, 1, 2, 3].map(|i| &tensors[i]);
        let x = x.reshape((64, 512))?;
        (x.matmul(w)? + (x.matmul(a)?.matmul(b)? * 2.0)?)?.reshape((4, 16, 512))
    });
}

fn softmax(criterion: &mut Criterion) {
    let both = Both::new(&[&[1, 128, 1024]]);
    let node = both.graph.softmax(both.nodes[0]).expect("shapes fit");
    let mut group = group(criterion, "softmax");
    both.measure(&mut group, node, |tensors| candle_nn::ops::softmax(&tensors[0], D::Minus1));
    both.theirs(&mut group, "candle, fused", |tensors| candle_nn::ops::softmax_last_dim(&tensors[0]));
}

fn rms_norm(criterion: &mut Criterion) {
    let both = Both::new(&[&[1, 128, 1024], &[1024]]);
    let node = both.graph.rms_norm(both.nodes[0], both.nodes[1], 1e-6).expect("shapes fit");
    let mut group = group(criterion, "RMS norm");
    both.measure(&mut group, node, |tensors| candle_nn::ops::rms_norm_slow(&tensors[0], &tensors[1], 1e-6));
    both.theirs(&mut group, "candle, fused", |tensors| candle_nn::ops::rms_norm(&tensors[0], &tensors[1], 1e-6));
}

criterion_group!(benches, lora, softmax, rms_norm);
criterion_main!(benches);
