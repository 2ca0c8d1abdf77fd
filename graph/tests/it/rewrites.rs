//! Each rewrite: it shows in the explanation, and keeps the values.

use std::sync::Arc;

use codec_api::{Dtype, EncodeCx, EncodedTensor, Registry, TensorView};
use graph::{Cache, Graph, Node, Options};

use crate::values::numbers;

fn array(graph: &Graph, shape: &[usize], seed: u64) -> Node {
    graph.array(shape, numbers(shape.iter().product(), seed)).unwrap()
}

/// Checks that a rule shows, and that values agree up to an error; returns the explanation.
fn check(graph: &Graph, node: Node, rule: &str, error: f32) -> String {
    let text = graph.explain(node).unwrap();
    assert!(text.contains(rule), "no `{rule}` in\n{text}");
    let better = graph.optimise(node).unwrap().node;
    let (a, b) = (graph.eval(node).unwrap(), graph.eval(better).unwrap());
    assert_eq!(a.spec(), b.spec());
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= error * a.abs().max(1.0);
    assert!(a.values().iter().zip(b.values()).all(near), "{rule}");
    text
}

#[test]
fn constants_are_folded() {
    let graph = Graph::new();
    let two = graph.add(graph.scalar(1.0).unwrap(), graph.scalar(1.0).unwrap()).unwrap();
    let node = graph.mul(array(&graph, &[90, 80], 1), two).unwrap();
    check(&graph, node, "constant", 0.0);
}

#[test]
fn slices_and_casts_move_down() {
    let graph = Graph::new();
    let (a, b) = (array(&graph, &[90, 80], 1), array(&graph, &[90, 80], 2));
    let sum = graph.scale(graph.add(a, b).unwrap(), 3.0).unwrap();
    let text = check(&graph, graph.slice(sum, &[3..7, 10..20]).unwrap(), "slice pushed down", 0.0);
    assert_eq!(text.matches("slice pushed down").count(), 2, "{text}");
    let turned = graph.cast(graph.transpose(sum).unwrap(), Dtype::BF16).unwrap();
    check(&graph, turned, "cast pushed down", 0.0);
}

#[test]
fn evaluations_rewrite_what_keeps_bits() {
    let graph = Graph::new();
    let (a, b) = (array(&graph, &[90, 80], 1), array(&graph, &[90, 80], 2));
    let sum = graph.silu(graph.add(a, b).unwrap()).unwrap();
    let part = graph.slice(sum, &[3..7, 10..20]).unwrap();
    let whole = graph.eval(sum).unwrap();
    let (values, statistics) = graph.evaluate(&[part], &Options::default()).unwrap();
    let expected: Vec<f32> = (3..7).flat_map(|row| whole.values()[row * 80 + 10..row * 80 + 20].to_vec()).collect();
    assert_eq!(values[0].values(), expected);
    // Two slices, a sum and a function.
    assert_eq!(statistics.evaluations, 4);
    // A sum that is wanted, too, is computed once, and not by parts.
    let (both, statistics) = graph.evaluate(&[sum, part], &Options::default()).unwrap();
    assert_eq!((both[1].values(), statistics.evaluations), (&expected[..], 3));
    // With a cache, its parts are found.
    let options = Options { cache: Some(Arc::new(Cache::new(1 << 20))), ..Options::default() };
    graph.evaluate(&[sum], &options).unwrap();
    assert_eq!(graph.evaluate(&[part], &options).unwrap().1.hits, 1);
    // Products change on request only.
    let (x, y) = (array(&graph, &[4, 90], 3), array(&graph, &[80, 70], 4));
    let product = graph.matmul(x, graph.matmul(a, y).unwrap()).unwrap();
    let before = graph.len();
    graph.eval(product).unwrap();
    assert_eq!(graph.len(), before);
}

#[test]
fn scale_and_add_are_one() {
    let graph = Graph::new();
    let (a, b) = (array(&graph, &[90, 80], 1), array(&graph, &[90, 80], 2));
    let node = graph.add(graph.scale(a, 0.3).unwrap(), b).unwrap();
    let text = check(&graph, node, "scale and add fused", 0.0);
    assert!(text.contains("in one pass: weighted_sum\n"), "{text}");
}

#[test]
fn products_are_associated_and_transposed() {
    let graph = Graph::new();
    let (x, a, b) = (array(&graph, &[4, 80], 1), array(&graph, &[80, 8], 2), array(&graph, &[8, 90], 3));
    check(&graph, graph.matmul(x, graph.matmul(a, b).unwrap()).unwrap(), "product associated by cost", 1e-4);
    let turned = graph.transpose(array(&graph, &[90, 80], 4)).unwrap();
    check(&graph, graph.matmul(x, turned).unwrap(), "transpose in the product", 1e-4);
}

#[test]
fn products_with_payloads_use_their_operator() {
    let graph = Graph::new();
    let values = numbers(128 * 256, 1);
    let codec = Registry::linked().unwrap().parse_spec("quant.int:bits=8").unwrap();
    let view = TensorView::from_f32([128, 256], &values).unwrap();
    let encoded = graph.encoded(&Arc::new(EncodedTensor::encode(codec, view, &EncodeCx::new(0)).unwrap())).unwrap();
    let x = array(&graph, &[3, 256], 2);
    check(&graph, graph.matmul_transposed(x, encoded).unwrap(), "operator of the codec", 0.02);
    let y = array(&graph, &[3, 128], 3);
    check(&graph, graph.matmul(y, encoded).unwrap(), "operator of the codec", 0.02);
}

#[test]
fn attention_and_adapters_take_one_step() {
    let graph = Graph::new();
    let (a, b, c) = (array(&graph, &[64, 80], 1), array(&graph, &[80, 64], 2), array(&graph, &[64, 64], 3));
    let sum = graph.add(graph.matmul(a, b).unwrap(), c).unwrap();
    let text = check(&graph, graph.softmax(graph.scale(sum, 2.0).unwrap()).unwrap(), "softmax", 0.0);
    assert_eq!(text.matches("step").count(), 1, "{text}");
    let (u, v) = (array(&graph, &[80, 8], 4), array(&graph, &[8, 64], 5));
    let text = check(&graph, graph.lora_forward(a, b, u, v, 2.0).unwrap(), "weighted_sum", 0.0);
    assert_eq!(text.matches("step").count(), 1, "{text}");
}
