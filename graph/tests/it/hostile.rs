//! For any bytes, opening gives an error or a graph that can be evaluated within its budget.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};
use codec_api::{Dtype, EncodeCx, EncodedTensor, Registry, TensorView};
use graph::{Graph, Node, Options, Source};
use laws::{MAX_HEAP, damage};
use serde_json::Value;

use crate::files::model;
use crate::values::numbers;

const KEY: &str = "netweight_graph";

/// Most bytes of an evaluation.
const BUDGET: u64 = 1 << 20;

/// Mutants of each file: as many as `PROPTEST_CASES` says.
fn cases() -> u64 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

/// Every operation on every kind of leaf, in outputs of their own.
fn write_graphs(folder: &Path, registry: &Registry) -> graph::Result<Vec<Vec<u8>>> {
    let base = folder.join("base.safetensors");
    model(&base, &numbers(160, 2));
    let graph = Graph::new();
    let a = graph.array([6, 8], numbers(48, 1))?;
    let stored = graph.slice(graph.tensor(&Source::open(&base, registry)?, "w")?, &[3..9, 0..8])?;
    let (codec, values) = (registry.parse_spec("quant.int:bits=4").unwrap(), numbers(48, 3));
    let view = TensorView::from_f32([6, 8], &values).unwrap();
    let encoded = EncodedTensor::encode(Arc::clone(&codec), view, &EncodeCx::new(0)).unwrap();
    let payload = graph.encoded(&Arc::new(encoded))?;
    let (noise, row) = (graph.random([6, 8], 7, 0.1)?, graph.array([8], numbers(8, 4))?);
    let sum = graph.weighted_sum(&[stored, a, payload, noise], &[1.0, 0.5, -0.25, 1.0])?;
    let pieces = graph.concat(&[sum, graph.slice(noise, &[1..4, 0..8])?], 0)?;
    let cube = graph.reshape(sum, [2, 3, 8])?;
    let [by_values, by_rows, by_moves, by_products] = [
        vec![graph.threshold(graph.silu(sum)?, 0.1)?, graph.sign(graph.gelu(a)?)?, graph.sub(a, graph.abs(noise)?)?],
        vec![graph.softmax(cube)?, graph.rms_norm(sum, row, 1e-6)?, graph.layer_norm(a, row, row, 1e-6)?],
        vec![
            graph.cast(graph.transpose(cube)?, Dtype::BF16)?,
            pieces,
            graph.scale_rows(a, graph.array([6], numbers(6, 5))?)?,
        ],
        vec![
            graph.matmul(sum, graph.transpose(payload)?)?,
            graph.matmul_transposed(cube, payload)?,
            graph.quantise(graph.add(sum, graph.scale(a, 3.0)?)?, codec, 0)?,
        ],
    ];
    let mut files = Vec::new();
    for outputs in [by_values, by_rows, by_moves, by_products] {
        let named: Vec<(&str, Node)> = ["x", "y", "z"].into_iter().zip(outputs).collect();
        let path = folder.join("graph.safetensors");
        graph.save(&named, &path)?;
        files.push(fs::read(path).unwrap());
    }
    Ok(files)
}

fn below(rng: &mut Xoshiro256PlusPlus, end: usize) -> usize {
    (rng.next_u64() % end.max(1) as u64) as usize
}

/// Gives one node other operands or other numbers, which may well make a valid graph.
fn rewire(file: &mut Vec<u8>, rng: &mut Xoshiro256PlusPlus) {
    let start = 8 + u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&file[8..start]).unwrap();
    let mut structure: Value = serde_json::from_str(header["__metadata__"][KEY].as_str().unwrap()).unwrap();
    let nodes = structure["nodes"].as_array_mut().unwrap();
    let number = below(rng, nodes.len());
    let node = nodes[number].as_object_mut().unwrap();
    if let Some(operands) = node.get_mut("operands").and_then(Value::as_array_mut)
        && rng.next_u64().is_multiple_of(2)
    {
        let at = below(rng, operands.len());
        operands[at] = below(rng, number).into();
    } else {
        let mut all: Vec<&mut Value> = node.values_mut().collect();
        let mut numbers = Vec::new();
        while let Some(value) = all.pop() {
            match value {
                Value::Array(list) => all.extend(list),
                Value::Object(object) => all.extend(object.values_mut()),
                Value::Number(_) => numbers.push(value),
                _ => {}
            }
        }
        let at = below(rng, numbers.len());
        if let Some(value) = numbers.into_iter().nth(at) {
            *value = below(rng, 12).into();
        }
    }
    header["__metadata__"][KEY] = structure.to_string().into();
    let text = header.to_string().into_bytes();
    let padded = text.len().next_multiple_of(8);
    let data = file.split_off(start);
    *file = [&(padded as u64).to_le_bytes()[..], &text, &vec![b' '; padded - text.len()], &data].concat();
}

/// Evaluates every output, whole and its last row, as it is and rewritten. Errors are answers.
fn evaluate(graph: &Graph, node: Node) {
    let options = Options { memory: Some(BUDGET), ..Options::default() };
    if let Ok((values, statistics)) = graph.evaluate(&[node], &options) {
        assert_eq!(values[0].values().len(), values[0].spec().elements());
        assert!(statistics.peak_bytes <= BUDGET, "{statistics:?}");
    }
    let rows = graph::rows_and_columns(&graph.spec(node).unwrap()).0;
    let _ = graph.rows(node, rows.saturating_sub(1)..rows, &options);
    if let Ok(better) = graph.optimise(node) {
        let _ = graph.evaluate(&[better.node], &options);
    }
}

#[test]
fn mutants_are_refused_or_evaluated() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::linked().unwrap());
    let files = write_graphs(folder.path(), &registry).unwrap();
    let path = folder.path().join("mutant.safetensors");
    let (mut opened, mut total) = (0, 0);
    for (number, file) in files.iter().enumerate() {
        for index in 0..cases() {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(index << 8 | number as u64);
            let mut mutant = file.clone();
            match rng.next_u64() % 2 {
                0 => (0..=rng.next_u64() % 3).for_each(|_| damage(&mut mutant, KEY, &mut rng)),
                _ => (0..=rng.next_u64() % 3).for_each(|_| rewire(&mut mutant, &mut rng)),
            }
            fs::write(&path, &mutant).unwrap();
            let what = format!("mutant {index} of file {number}");
            let (answer, peak) = heap::peak(|| laws::catch(|| Graph::open(&path, &registry)));
            let answer = answer.unwrap_or_else(|panic| panic!("{what}: {panic}"));
            assert!(peak.is_none_or(|peak| peak <= MAX_HEAP), "{what} held {peak:?} bytes");
            total += 1;
            if let Ok((graph, outputs)) = answer {
                opened += 1;
                let all = || outputs.values().for_each(|node| evaluate(&graph, *node));
                let (evaluated, peak) = heap::peak(|| laws::catch(all));
                evaluated.unwrap_or_else(|panic| panic!("{what}: {panic}"));
                assert!(peak.is_none_or(|peak| peak <= MAX_HEAP), "the evaluation of {what} held {peak:?} bytes");
            }
        }
    }
    assert!(opened > total / 10 && opened < total, "{opened} of {total} were opened");
}
