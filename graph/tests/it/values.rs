//! The values of every operation, against plain loops.

use std::sync::Arc;

use codec_api::{Dtype, EncodeCx, EncodedTensor, Registry, TensorView};
use codec_quant as _;
use graph::{Graph, Node, Options};

pub(crate) fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let graph = Graph::new();
    let node = graph.random([n], seed, 1.0).unwrap();
    graph.eval(node).unwrap().values().to_vec()
}

fn array(graph: &Graph, shape: &[usize], seed: u64) -> (Node, Vec<f32>) {
    let values = numbers(shape.iter().product(), seed);
    (graph.array(shape, values.clone()).unwrap(), values)
}

fn product(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
    let at = |i: usize, j: usize| (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum::<f64>();
    (0..m * n).map(|i| at(i / n, i % n) as f32).collect()
}

fn near(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} is not {b}"));
}

fn values(graph: &Graph, node: Node) -> Vec<f32> {
    graph.eval(node).unwrap().values().to_vec()
}

#[test]
fn functions_of_each_value() {
    let graph = Graph::new();
    let (x, v) = array(&graph, &[7, 33], 1);
    let check =
        |node: Node, f: &dyn Fn(f32) -> f32| near(&values(&graph, node), &v.iter().map(|v| f(*v)).collect::<Vec<_>>());
    check(graph.neg(x).unwrap(), &|v| -v);
    check(graph.abs(x).unwrap(), &f32::abs);
    check(graph.sign(x).unwrap(), &f32::signum);
    check(graph.scale(x, 0.3).unwrap(), &|v| v * 0.3);
    check(graph.threshold(x, 0.7).unwrap(), &|v| if v.abs() < 0.7 { 0.0 } else { v });
    check(graph.silu(x).unwrap(), &|v| v / (1.0 + (-v).exp()));
    check(graph.gelu_tanh(x).unwrap(), &|v| 0.5 * v * (1.0 + (0.797_884_6 * (v + 0.044_715 * v * v * v)).tanh()));
    check(graph.cast(x, Dtype::BF16).unwrap(), &|v| {
        f32::from_bits(((v.to_bits() + 0x7fff + (v.to_bits() >> 16 & 1)) >> 16) << 16)
    });
}

#[test]
fn pairs_are_broadcast() {
    let graph = Graph::new();
    let (a, x) = array(&graph, &[2, 3, 5], 1);
    for (shape, place) in [
        (vec![2, 3, 5], Box::new(|i| i) as Box<dyn Fn(usize) -> usize>),
        (vec![5], Box::new(|i| i % 5)),
        (vec![3, 1], Box::new(|i| i / 5 % 3)),
        (vec![2, 1, 5], Box::new(|i| i / 15 * 5 + i % 5)),
        (vec![], Box::new(|_| 0)),
        (vec![3, 5], Box::new(|i| i % 15)),
    ] {
        let (b, y) = array(&graph, &shape, 2);
        let expected: Vec<f32> = x.iter().enumerate().map(|(i, x)| x - y[place(i)]).collect();
        assert_eq!(values(&graph, graph.sub(a, b).unwrap()), expected, "{shape:?}");
        let turned: Vec<f32> = expected.iter().map(|v| -v).collect();
        assert_eq!(values(&graph, graph.sub(b, a).unwrap()), turned, "{shape:?}");
    }
}

#[test]
fn products_of_stacks() {
    let graph = Graph::new();
    let ((a, x), (b, y), (c, z)) =
        (array(&graph, &[3, 40, 6], 1), array(&graph, &[6, 9], 2), array(&graph, &[3, 6, 9], 3));
    let by_one: Vec<f32> = x.chunks(240).flat_map(|x| product(x, &y, [40, 6, 9])).collect();
    near(&values(&graph, graph.matmul(a, b).unwrap()), &by_one);
    let by_each: Vec<f32> = x.chunks(240).zip(z.chunks(54)).flat_map(|(x, z)| product(x, z, [40, 6, 9])).collect();
    near(&values(&graph, graph.matmul(a, c).unwrap()), &by_each);
    let turned = graph.transpose(c).unwrap();
    near(&values(&graph, graph.matmul_transposed(a, turned).unwrap()), &by_each);
    let error = graph.matmul(b, a).unwrap_err().to_string();
    assert!(error.contains("node 1 (F32 [6, 9])") && error.contains("node 0 (F32 [3, 40, 6])"), "{error}");
}

#[test]
fn views_move_values() {
    let graph = Graph::new();
    let (a, x) = array(&graph, &[4, 6, 10], 1);
    let turned = values(&graph, graph.transpose(a).unwrap());
    (0..240).for_each(|i| assert_eq!(turned[i / 60 * 60 + i % 10 * 6 + i / 10 % 6], x[i]));
    let part = values(&graph, graph.slice(a, &[1..3, 2..5, 3..9]).unwrap());
    let picked: Vec<f32> =
        (1..3).flat_map(|i| (2..5).flat_map(move |j| (3..9).map(move |k| i * 60 + j * 10 + k))).map(|i| x[i]).collect();
    assert_eq!(part, picked);
    let doubled = graph.scale(a, 2.0).unwrap();
    assert_eq!(values(&graph, graph.reshape(doubled, [8, 30]).unwrap()), x.iter().map(|v| 2.0 * v).collect::<Vec<_>>());
    for axis in 0..3 {
        let ranges = |first: usize, end: usize| {
            let mut ranges = [0..4, 0..6, 0..10];
            ranges[axis] = first..end;
            ranges
        };
        let length = [4, 6, 10][axis];
        let parts = [(0, 1), (1, 3), (3, length)].map(|(first, end)| graph.slice(a, &ranges(first, end)).unwrap());
        assert_eq!(values(&graph, graph.concat(&parts, axis).unwrap()), x, "axis {axis}");
    }
}

#[test]
fn rows_are_normalised() {
    let graph = Graph::new();
    let ((a, x), (w, u), (b, v)) = (array(&graph, &[5, 37], 1), array(&graph, &[37], 2), array(&graph, &[37], 3));
    let rows = |f: &dyn Fn(&[f32]) -> Vec<f32>| x.chunks(37).flat_map(f).collect::<Vec<_>>();
    near(
        &values(&graph, graph.softmax(a).unwrap()),
        &rows(&|x| {
            let sum: f32 = x.iter().map(|v| v.exp()).sum();
            x.iter().map(|v| v.exp() / sum).collect()
        }),
    );
    near(
        &values(&graph, graph.rms_norm(a, w, 1e-5).unwrap()),
        &rows(&|x| {
            let s = (x.iter().map(|v| v * v).sum::<f32>() / 37.0 + 1e-5).sqrt();
            x.iter().zip(&u).map(|(x, w)| x / s * w).collect()
        }),
    );
    near(
        &values(&graph, graph.layer_norm(a, w, b, 1e-5).unwrap()),
        &rows(&|x| {
            let mean = x.iter().sum::<f32>() / 37.0;
            let s = (x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / 37.0 + 1e-5).sqrt();
            x.iter().zip(u.iter().zip(&v)).map(|(x, (w, b))| (x - mean) / s * w + b).collect()
        }),
    );
}

#[test]
fn adapters_and_sums() {
    let graph = Graph::new();
    let ((w, _), (a, _), (b, _), (x, _)) = (
        array(&graph, &[12, 9], 1),
        array(&graph, &[12, 2], 2),
        array(&graph, &[2, 9], 3),
        array(&graph, &[3, 8, 12], 4),
    );
    let merged = graph.lora(w, b, a, 1.5).unwrap();
    let (one, two) = (graph.matmul(x, merged).unwrap(), graph.lora_forward(x, w, a, b, 1.5).unwrap());
    near(&values(&graph, one), &values(&graph, two));
}

#[test]
fn payloads_and_quantised_values_agree() {
    let graph = Graph::new();
    let registry = Registry::linked().unwrap();
    let (a, x) = array(&graph, &[64, 128], 1);
    let codec = registry.parse_spec("quant.int:bits=4").unwrap();
    let view = TensorView::from_f32([64, 128], &x).unwrap();
    let encoded = Arc::new(EncodedTensor::encode(Arc::clone(&codec), view, &EncodeCx::new(0)).unwrap());
    let leaf = graph.encoded(&encoded).unwrap();
    assert_eq!(values(&graph, leaf), values(&graph, graph.quantise(a, codec, 0).unwrap()));
    let (rows, statistics) = graph.rows(graph.neg(leaf).unwrap(), 10..12, &Options::default()).unwrap();
    assert_eq!(rows, values(&graph, leaf)[1280..1536].iter().map(|v| -v).collect::<Vec<_>>());
    assert!(statistics.bytes_read <= encoded.payload.bytes() * 2 / 64 + 1, "{statistics:?}");
}
