//! Plans: memory, passes, sharing, threads, cancellation.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use codec_api::{Cancel, CodecError, EncodeCx, EncodedTensor, Registry, TensorSpec, TensorView, typetag};
use graph::{Block, Cache, Error, Graph, Node, Operand, Operation, Options, Survey};
use serde::{Deserialize, Serialize};

use crate::values::numbers;

#[test]
fn equal_nodes_are_one() {
    let graph = Graph::new();
    let a = graph.array([4], vec![1.0; 4]).unwrap();
    assert_eq!(graph.scale(a, 2.0).unwrap(), graph.scale(a, 2.0).unwrap());
    assert_ne!(graph.scale(a, 2.0).unwrap(), graph.scale(a, -2.0).unwrap());
    assert_eq!(graph.scalar(1.0).unwrap(), graph.scalar(1.0).unwrap());
    let other = Graph::new();
    let b = other.array([4], vec![1.0; 4]).unwrap();
    assert!(matches!(graph.add(a, b), Err(Error::Foreign)));
    for deviation in [f32::NAN, f32::INFINITY] {
        assert!(matches!(graph.random([4], 1, deviation), Err(Error::Leaf { .. })));
    }
}

#[test]
fn a_chain_takes_one_pass() {
    let graph = Graph::new();
    let mut node = graph.array([64, 1024], numbers(1 << 16, 1)).unwrap();
    for i in 0..10 {
        node = graph.scale(node, 1.0 + i as f32).unwrap();
    }
    let (_, statistics) = graph.evaluate(&[node], &Options::default()).unwrap();
    assert_eq!((statistics.bytes_read, statistics.bytes_written), (4 << 16, 4 << 16));
    assert_eq!((statistics.evaluations, statistics.peak_bytes), (10, 4 << 16));
}

#[test]
fn an_expression_takes_little_memory() {
    let (graph, n) = (Graph::new(), 1000);
    let leaf = |seed| graph.array([n, n], numbers(n * n, seed)).unwrap();
    let (a, b, c) = (leaf(1), leaf(2), leaf(3));
    let sum = graph.scale(graph.add(a, b).unwrap(), 2.0).unwrap();
    let node = graph.add(graph.matmul(sum, c).unwrap(), a).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    // What a product of faer allocates for itself.
    let (x, mut y) = (numbers(n * n, 4), vec![0.0; n * n]);
    let ((), scratch) = pool.install(|| {
        heap::peak(|| {
            let x = faer::MatRef::from_row_major_slice(&x, n, n);
            let y = faer::MatMut::from_row_major_slice_mut(&mut y, n, n);
            faer::linalg::matmul::matmul(y, faer::Accum::Replace, x, x, 1.0, faer::Par::Seq);
        })
    });
    let limit = Options { memory: Some(4_400_000), ..Options::default() };
    let (result, peak) = pool.install(|| heap::peak(|| graph.evaluate(&[node], &limit).unwrap()));
    assert!(result.1.peak_bytes <= 4_400_000, "{:?}", result.1);
    assert!(peak.unwrap() <= 4_500_000 + scratch.unwrap(), "{peak:?}, {scratch:?} of faer");
    let few = Options { memory: Some(4_000_100), ..Options::default() };
    assert!(matches!(graph.evaluate(&[node], &few), Err(Error::Memory { .. })));
}

#[test]
fn a_deep_graph_needs_no_stack() {
    let graph = Graph::new();
    let first = graph.array([8], vec![1.0; 8]).unwrap();
    let mut node = first;
    for i in 0..100_000 {
        node = if i % 2 == 0 { graph.add(node, first).unwrap() } else { graph.neg(node).unwrap() };
    }
    assert_eq!(graph.eval(node).unwrap().values(), [1.0; 8]);
}

#[test]
fn a_slice_reads_its_rows_only() {
    let graph = Graph::new();
    let leaf = |seed| graph.array([100, 10], numbers(1000, seed)).unwrap();
    let sum = graph.add(leaf(1), leaf(2)).unwrap();
    let part = graph.slice(graph.silu(sum).unwrap(), &[20..25, 0..10]).unwrap();
    let (values, statistics) = graph.evaluate(&[part], &Options::default()).unwrap();
    assert_eq!(statistics.bytes_read, 2 * 5 * 40);
    let all = graph.eval(graph.silu(sum).unwrap()).unwrap();
    assert_eq!(values[0].values(), &all.values()[200..250]);
    assert_eq!(graph.rows(sum, 3..5, &Options::default()).unwrap().1.bytes_read, 2 * 2 * 40);
}

/// Counts the values that it computes, times a number.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    number: u64,
}

static COUNTED: AtomicU64 = AtomicU64::new(0);

#[typetag::serde(name = "test.counted")]
impl Operation for Counted {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        Ok(operands[0].clone())
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        COUNTED.fetch_add(out.len() as u64 * self.number, Ordering::Relaxed);
        out.copy_from_slice(block.operands[0].values);
        Ok(())
    }
}

/// A value that is used by rows and as a whole.
fn shared(graph: &Graph, number: u64) -> Node {
    let a = graph.array([300, 50], numbers(15000, 1)).expect("shapes fit");
    let counted = graph.apply(Counted { number }, &[a]).expect("shapes fit");
    let product = graph.matmul(counted, graph.transpose(counted).expect("shapes fit")).expect("shapes fit");
    graph.softmax(product).expect("shapes fit")
}

#[test]
fn threads_share_a_node_and_its_result() {
    let graph = Arc::new(Graph::new());
    let node = shared(&graph, 1);
    let cache = Arc::new(Cache::new(1 << 30));
    let options = Options { cache: Some(cache), ..Options::default() };
    let results: Vec<_> = thread::scope(|scope| {
        let work: Vec<_> =
            (0..8).map(|_| scope.spawn(|| graph.evaluate(&[node], &options).unwrap().0.remove(0))).collect();
        work.into_iter().map(|work| work.join().unwrap()).collect()
    });
    assert_eq!(COUNTED.load(Ordering::Relaxed), 15000);
    assert!(results.iter().all(|value| Arc::ptr_eq(value, &results[0])));
    assert_eq!(graph.eval(node).unwrap().values(), results[0].values());
}

#[test]
fn a_cache_keeps_its_budget() {
    let graph = Graph::new();
    let cache = Arc::new(Cache::new(10_000));
    let options = Options { cache: Some(Arc::clone(&cache)), ..Options::default() };
    let a = graph.random([1000], 1, 1.0).unwrap();
    let nodes: Vec<Node> = (1..=5).map(|i| graph.scale(a, i as f32).unwrap()).collect();
    let held = graph.evaluate(&nodes[..1], &options).unwrap().0;
    for node in &nodes[1..] {
        graph.evaluate(&[*node], &options).unwrap();
        assert!(cache.bytes() <= 10_000);
    }
    let hits = |node| graph.evaluate(&[node], &options).unwrap().1.hits;
    assert_eq!([0, 1, 4].map(|i| hits(nodes[i])), [1, 0, 1]);
    drop(held);
}

#[test]
fn evaluations_are_cancelled() {
    let graph = Graph::new();
    let node = shared(&graph, 0);
    let cancel = Arc::new(Cancel::new());
    cancel.cancel();
    let options = Options { cancel: Some(cancel), ..Options::default() };
    assert!(matches!(graph.evaluate(&[node], &options), Err(Error::Cancelled)));
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_future_gives_the_same_values() {
    let graph = Arc::new(Graph::new());
    let node = shared(&graph, 0);
    let options = Options::default();
    let mut future = pin!(graph.eval_async(node, &options));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let value = loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => break value.unwrap(),
            Poll::Pending => thread::park(),
        }
    };
    assert_eq!(value.values(), graph.eval(node).unwrap().values());
}

#[test]
fn windows_are_the_rows() {
    let graph = Graph::new();
    let node = shared(&graph, 0);
    let mut all = Vec::new();
    let options = Options { memory: Some(2_000_000), ..Options::default() };
    graph
        .visit(node, &options, |first, values| {
            assert_eq!(first * 300, all.len());
            all.extend_from_slice(values);
            Ok(())
        })
        .unwrap();
    assert_eq!(all, graph.eval(node).unwrap().values());
}

/// Products of both kinds and of an operator, with steps before and behind them.
fn products(graph: &Graph) -> Vec<Node> {
    let array = |shape: &[usize], seed| graph.array(shape, numbers(shape.iter().product(), seed)).unwrap();
    let (x, w, row) = (array(&[3, 67, 128], 1), array(&[128, 90], 2), array(&[90], 3));
    let weights = numbers(90 * 128, 4);
    let codec = Registry::linked().unwrap().parse_spec("quant.int:bits=8").unwrap();
    let view = TensorView::from_f32([90, 128], &weights).unwrap();
    let payload = graph.encoded(&Arc::new(EncodedTensor::encode(codec, view, &EncodeCx::new(0)).unwrap())).unwrap();
    let by_columns = graph.rms_norm(graph.matmul(graph.silu(x).unwrap(), w).unwrap(), row, 1e-6).unwrap();
    let by_rows = graph.softmax(graph.matmul_transposed(x, array(&[90, 128], 5)).unwrap()).unwrap();
    let by_operator = graph.optimise(graph.matmul_transposed(x, payload).unwrap()).unwrap().node;
    vec![by_columns, by_rows, by_operator]
}

#[test]
fn threads_blocks_and_budgets_change_no_bit() {
    let graph = Graph::new();
    let nodes = products(&graph);
    let whole: Vec<_> = nodes.iter().map(|node| graph.eval(*node).unwrap()).collect();
    for threads in 1..=3 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for memory in [None, Some(200_000), Some(80_000)] {
            let options = Options { memory, ..Options::default() };
            for (node, whole) in nodes.iter().zip(&whole) {
                let (values, _) = pool.install(|| graph.evaluate(&[*node], &options)).unwrap();
                assert!(values[0] == *whole, "{node:?}, {threads} threads, budget {memory:?}");
            }
        }
    }
    for (node, whole) in nodes.iter().zip(&whole) {
        for rows in [0..1, 66..68, 200..201] {
            let (values, _) = graph.rows(*node, rows.clone(), &Options::default()).unwrap();
            assert_eq!(values, whole.values()[rows.start * 90..rows.end * 90], "{node:?}, rows {rows:?}");
        }
    }
}

#[test]
fn rows_of_a_quantised_tensor_are_those_of_the_whole() {
    let graph = Graph::new();
    let a = graph.array([30, 64], numbers(1920, 1)).unwrap();
    let codec = Registry::linked().unwrap().parse_spec("quant.int:bits=4").unwrap();
    let node = graph.quantise(a, codec, 0).unwrap();
    let (rows, _) = graph.rows(node, 7..9, &Options::default()).unwrap();
    assert_eq!(rows, graph.eval(node).unwrap().values()[7 * 64..9 * 64]);
}

/// Divides by the largest magnitude, which a first pass finds.
#[derive(Debug, Serialize, Deserialize)]
struct ByLargest {}

struct Largest(f32);

impl Survey for Largest {
    fn take(&mut self, operands: &[Operand<'_>]) -> Result<(), CodecError> {
        self.0 = operands[0].values.iter().fold(self.0, |m, v| m.max(v.abs()));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Box<dyn std::any::Any + Send + Sync> {
        Box::new(self.0)
    }
}

#[typetag::serde(name = "test.by_largest")]
impl Operation for ByLargest {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        Ok(operands[0].clone())
    }

    fn survey(&self, _: &[&TensorSpec]) -> Option<Box<dyn Survey>> {
        Some(Box::new(Largest(0.0)))
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let largest = block.survey.and_then(|found| found.downcast_ref::<f32>()).copied().expect("a survey");
        out.iter_mut().zip(block.operands[0].values).for_each(|(out, v)| *out = v / largest);
        Ok(())
    }
}

#[test]
fn a_first_pass_sees_all_rows() {
    let graph = Graph::new();
    let x = numbers(200_000, 5);
    let a = graph.array([2000, 100], x.clone()).unwrap();
    let scaled = graph.apply(ByLargest {}, &[graph.scale(a, 3.0).unwrap()]).unwrap();
    let node = graph.neg(scaled).unwrap();
    let (part, _) = graph.rows(node, 7..9, &Options::default()).unwrap();
    let largest = x.iter().fold(0.0f32, |m, v| m.max((3.0 * v).abs()));
    assert_eq!(part, x[700..900].iter().map(|v| -(3.0 * v / largest)).collect::<Vec<_>>());
    let whole = graph.eval(node).unwrap();
    assert_eq!(whole.values()[700..900], part);
}
