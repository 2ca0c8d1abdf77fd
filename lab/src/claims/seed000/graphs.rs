//! Memory, time and files of expressions.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use checkpoint::Checkpoint;
use codec_api::TensorSpec;
use graph::Graph;

use crate::claims::expressions::{self, Expression};
use crate::claims::timing::{Times, normal};
use crate::lab::Lab;
use crate::measure::{Table, beside, paragraph, significant};

const CALLS: usize = 11;
const MB: f64 = 1e6;

const MEMORY: &str = "\
The report measured memory after the temporaries of the eager evaluation were freed, and before
anything of the lazy one was evaluated. Here, bytes are the most that an evaluation held at a time,
above its inputs and with its result, counted by the allocator on one thread. Eager: each result is
whole in memory before the next operation, and is dropped after its last use. By hand: code for this
expression, which has the sum in memory. The saving is that of lazy beside eager evaluation. Times are medians, with
the fifth and the ninety-fifth percentile, on all threads.";

const OVERHEAD: &str = "\
The report claims that the graph costs less than 10 ms. Build: a new graph with the nodes of
((A+B)·2)@C + A. Overhead: evaluation by the graph, planning included, less that by the code written
for the expression; below zero, the graph was faster, or it is within the noise.";

/// Most bytes held above those at the start, on one thread.
fn peak<T: Send>(work: impl Fn() -> T + Sync) -> Result<f64> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| {
        // Buffers that live as long as their thread are there now.
        drop(work());
        heap::peak(&work).1
    })
    .map(|bytes| bytes as f64)
    .context("the lab's allocator counts")
}

fn memory() -> Result<String> {
    let mut table = Table::new(["Expression", "Evaluation", "Most MB", "Of the result", "Time", "Saving"]);
    let mut add = |name: &str, expression: &Expression, claim: f64| -> Result<()> {
        let result = 4.0 * expression.by_hand().len() as f64;
        let peaks = [peak(|| expression.lazy())?, peak(|| expression.eager())?, peak(|| expression.by_hand())?];
        let times = expression.times(CALLS)?;
        let saving = 100.0 * (1.0 - peaks[0] / peaks[1]);
        let saving = beside(&format!("{saving:.1} %"), &format!("{claim} %"), saving < claim);
        let name = format!("{name}, {}", expression.shape);
        for (i, way) in ["lazy", "eager", "by hand"].into_iter().enumerate() {
            let (megabytes, of_result) = (significant(peaks[i] / MB), format!("{:.2}", peaks[i] / result));
            table.row([&*name, way, &megabytes, &of_result, &times[i].text(), if i == 0 { &saving } else { "" }]);
        }
        Ok(())
    };
    add("`memory`: ((A+B)·2)@C + A", &expressions::memory(2000)?, 57.1)?;
    add("`lazy`: ((A+B)·2)ᵀ", &expressions::transposed(1000)?, 60.0)?;
    Ok(table.under("Memory of graphs", MEMORY))
}

fn overhead() -> Result<String> {
    let mut table = Table::new(["Size", "Build", "Graph", "By hand", "Overhead"]);
    for n in [100, 500, 1000, 2000] {
        let expression = expressions::memory(n)?;
        let values: Arc<[f32]> = normal("a", n * n, 1.0).into();
        let build = || -> Result<Graph> {
            let graph = Graph::new();
            let [a, b, c] = [(); 3].map(|()| graph.array([n, n], Arc::clone(&values)));
            let sum = graph.scale(graph.add(a?, b?)?, 2.0)?;
            graph.add(graph.matmul(sum, c?)?, graph.scale(sum, 1.0)?)?;
            Ok(graph)
        };
        build()?;
        let [built] = Times::of(30 * CALLS, [&mut || drop(black_box(build()))]);
        let [graph, _, by_hand] = expression.times(if n < 1000 { 20 * CALLS } else { CALLS })?;
        let most = 1e3 * (graph.median() - by_hand.median());
        let found = beside(&format!("{most:.3} ms"), "10 ms", most > 10.0);
        table.row([&*expression.shape, &built.text(), &graph.text(), &by_hand.text(), &found]);
    }
    Ok(table.under("Overhead of graphs", OVERHEAD))
}

/// A graph in a file, read back.
fn json(lab: &Lab) -> Result<String> {
    const N: usize = 1000;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("graph.safetensors");
    let expression = expressions::memory(N)?;
    expression.graph.save(&[("out", expression.node())], &path)?;
    let (read, outputs) = Graph::open(&path, &lab.registry)?;
    let node = *outputs.get("out").context("the graph has its output")?;
    ensure!(read.eval(node)?.values() == expression.lazy()?.values(), "the graph read back gives other values");
    let bytes = std::fs::metadata(&path)?.len();
    let file = Checkpoint::open(&path)?;
    let constants: usize = file.names().map(|name| file.spec(name).map(TensorSpec::byte_len)).sum::<Result<_, _>>()?;
    let text = format!(
        "`json`: the report stores any graph as JSON with a perfect reconstruction; it took 20.7 bytes for each number. \
         The file of ((A+B)·2)@C + A of {N} × {N}, in which A is used twice, has {bytes} bytes: {constants} of three \
         arrays, and {} of structure and header. That is {:.4} bytes for each of the {} numbers. Read back, it evaluates \
         to the same bits.",
        bytes - constants as u64,
        bytes as f64 / (3 * N * N) as f64,
        3 * N * N,
    );
    Ok(format!("## Files of graphs\n\n{}", paragraph(&text)))
}

/// The tables.
pub(super) fn measure(lab: &Lab) -> Result<String> {
    Ok([memory()?, overhead()?, json(lab)?].join("\n"))
}
