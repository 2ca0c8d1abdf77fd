//! Lazy evaluation beside eager evaluation and code for the same expression.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use anyhow::Result;
use graph::{Graph, Options};

use crate::claims::expressions;
use crate::claims::timing::{Times, normal};
use crate::measure::{Table, beside, paragraph};

const CALLS: usize = 301;

const INTRODUCTION: &str = "\
The expressions of the report, in F32. Lazy: the graph is planned and evaluated anew for each call,
without a cache. Eager: the same graph, one operation at a time, so that each result is whole in
memory before the next operation; intermediate results are dropped after their last use. By hand:
code for this expression, with products of faer. Async: the lazy evaluation on another thread, and
the way there and back. The calls of the other three alternate. Softmax and norm are one operation, for which lazy and
eager are the same; their compositions stand in the table above. Ratios are of medians. The report
claims that lazy evaluation is 1.18x as fast as eager evaluation; later runs of its program gave
0.99x.";

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut cx, mut future) = (Context::from_waker(&waker), pin!(future));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Time of building eleven nodes, in a new graph.
fn building() -> Result<Times> {
    let values: Arc<[f32]> = normal("x", 1024, 1.0).into();
    let build = || -> Result<Graph> {
        let graph = Graph::new();
        let mut node = graph.array([1024], Arc::clone(&values))?;
        for i in 1..=10 {
            node = graph.scale(node, i as f32)?;
        }
        Ok(graph)
    };
    build()?;
    let [times] = Times::of(10 * CALLS, [&mut || drop(black_box(build()))]);
    Ok(times)
}

/// The table.
pub(super) fn measure() -> Result<String> {
    let mut rows = Vec::new();
    for [width, rank] in [[512, 8], [1024, 8], [2048, 8], [1024, 4], [1024, 16], [1024, 64]] {
        rows.push(("`lora`", expressions::lora(width, rank)?));
    }
    rows.push(("`softmax`", expressions::softmaxes()?));
    rows.push(("`rms-norm`", expressions::rms_norms()?));
    rows.push(("`chain`: softmax((a@b + c)·2)", expressions::chain(64)?));
    rows.push(("`add`", expressions::add(1024)?));
    for n in [64, 128, 256] {
        rows.push(("`matmul`", expressions::product(n)?));
    }
    rows.push(("`mul-scalar-chain`: ten scalings", expressions::scalings(1024)?));

    let mut table =
        Table::new(["Expression", "Shape", "Lazy", "Eager", "By hand", "Async", "Eager / lazy", "By hand / lazy"]);
    let mut overhead = 0.0;
    for (name, expression) in &rows {
        let [lazy, eager, by_hand] = expression.times(CALLS)?;
        let options = Options::default();
        let mut call = || drop(black_box(wait(expression.graph.eval_async(expression.node(), &options))));
        let [later] = Times::of(CALLS, [&mut call]);
        let ratio = |other: &Times| format!("{:.2}x", other.median() / lazy.median());
        let gain = eager.median() / lazy.median();
        let gain = if *name == "`lora`" { beside(&ratio(&eager), "1.18x", gain + 0.005 < 1.18) } else { ratio(&eager) };
        let [a, b, c, d] = [&lazy, &eager, &by_hand, &later].map(Times::text);
        table.row([*name, &expression.shape, &a, &b, &c, &d, &gain, &ratio(&by_hand)]);
        // That of the last row: its arithmetic is one pass over 4 KiB.
        overhead = 1e6 * (lazy.median() - by_hand.median());
    }
    let build = building()?;
    let found = format!("{overhead:.2} µs");
    let remark = format!(
        "`build`: a new graph with eleven nodes takes {}. Planning and evaluating the ten scalings take {} longer than \
         one pass of a loop over the 1024 values.",
        build.text(),
        beside(&found, "10 µs", overhead > 10.0),
    );
    Ok([table.under("Lazy Graphs", INTRODUCTION), paragraph(&remark)].join("\n"))
}
