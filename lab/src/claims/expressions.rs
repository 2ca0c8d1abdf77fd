//! Expressions of the reports, evaluated in three ways: as a graph, operation by operation, and by
//! code written for them.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use graph::{Cache, Graph, Node, Options, Value};
use rayon::prelude::*;

use super::timing::{Times, normal};

/// An expression over values in memory.
pub(super) struct Expression {
    pub(super) shape: String,
    pub(super) graph: Arc<Graph>,
    /// The operations in their order, and the number of the last one that uses each. The last one
    /// is the result.
    steps: Vec<(Node, usize)>,
    by_hand: Box<dyn Fn() -> Vec<f32> + Send + Sync>,
}

impl Expression {
    /// The result.
    pub(super) fn node(&self) -> Node {
        self.steps[self.steps.len() - 1].0
    }

    /// Evaluates the graph.
    pub(super) fn lazy(&self) -> Result<Arc<Value>> {
        Ok(self.graph.eval(self.node())?)
    }

    /// Evaluates each operation alone, and drops each result after its last use.
    pub(super) fn eager(&self) -> Result<Arc<Value>> {
        // A cache without a budget finds what `held` holds.
        let options = Options { cache: Some(Arc::new(Cache::new(0))), ..Options::default() };
        let mut held: Vec<(Arc<Value>, usize)> = Vec::new();
        for (i, (node, last)) in self.steps.iter().enumerate() {
            let (values, _) = self.graph.evaluate(&[*node], &options)?;
            held.retain(|(_, last)| *last > i);
            held.extend(values.into_iter().map(|value| (value, *last)));
        }
        Ok(held.pop().context("an expression has operations")?.0)
    }

    /// Runs the code that was written for the expression.
    pub(super) fn by_hand(&self) -> Vec<f32> {
        (self.by_hand)()
    }

    /// Times of [`Self::lazy`], [`Self::eager`] and [`Self::by_hand`], which give the same values.
    pub(super) fn times(&self, calls: usize) -> Result<[Times; 3]> {
        self.check()?;
        let mut lazy = || drop(black_box(self.lazy()));
        let mut eager = || drop(black_box(self.eager()));
        let mut by_hand = || drop(black_box(self.by_hand()));
        Ok(Times::of(calls, [&mut lazy, &mut eager, &mut by_hand]))
    }

    fn check(&self) -> Result<()> {
        let (lazy, by_hand) = (self.lazy()?, self.by_hand());
        ensure!(lazy.values() == self.eager()?.values(), "{}: lazy and eager evaluation differ", self.shape);
        let largest = by_hand.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let differ = lazy.values().iter().zip(&by_hand).any(|(a, b)| (a - b).abs() > 1e-4 * largest);
        ensure!(!differ && lazy.values().len() == by_hand.len(), "{}: graph and code differ", self.shape);
        Ok(())
    }
}

/// Values that a graph and code share.
struct Inputs(Arc<Graph>);

impl Inputs {
    fn new() -> Self {
        Self(Arc::new(Graph::new()))
    }

    fn array(&self, name: &str, shape: &[usize], deviation: f32) -> Result<(Node, Arc<[f32]>)> {
        let values: Arc<[f32]> = normal(name, shape.iter().product(), deviation).into();
        Ok((self.0.array(shape, Arc::clone(&values))?, values))
    }

    fn expression(
        self,
        shape: String,
        steps: impl Into<Vec<(Node, usize)>>,
        by_hand: impl Fn() -> Vec<f32> + Send + Sync + 'static,
    ) -> Expression {
        Expression { shape, graph: self.0, steps: steps.into(), by_hand: Box::new(by_hand) }
    }
}

/// `((A+B)·2)@C + A` of `n × n`.
pub(super) fn memory(n: usize) -> Result<Expression> {
    let inputs = Inputs::new();
    let [(a, of_a), (b, of_b), (c, of_c)] = squares(&inputs, n, 1.0)?;
    let graph = &inputs.0;
    let sum = graph.add(a, b)?;
    let scaled = graph.scale(sum, 2.0)?;
    let product = graph.matmul(scaled, c)?;
    let steps = [(sum, 1), (scaled, 2), (product, 3), (graph.add(product, a)?, 3)];
    Ok(inputs.expression(format!("{n} × {n}"), steps, move || {
        let sum: Vec<f32> = of_a.iter().zip(&*of_b).map(|(a, b)| (a + b) * 2.0).collect();
        let mut out = of_a.to_vec();
        multiply(&sum, &of_c, [n; 3], Accum::Add, 1.0, &mut out);
        out
    }))
}

/// `((A+B)·2)ᵀ` of `n × n`.
pub(super) fn transposed(n: usize) -> Result<Expression> {
    let inputs = Inputs::new();
    let [(a, of_a), (b, of_b), _] = squares(&inputs, n, 1.0)?;
    let graph = &inputs.0;
    let sum = graph.add(a, b)?;
    let scaled = graph.scale(sum, 2.0)?;
    let steps = [(sum, 1), (scaled, 2), (graph.transpose(scaled)?, 2)];
    Ok(inputs.expression(format!("{n} × {n}"), steps, move || {
        let sum: Vec<f32> = of_a.iter().zip(&*of_b).map(|(a, b)| (a + b) * 2.0).collect();
        let mut out = vec![0.0; n * n];
        codec_api::util::transpose((n, n), &sum, &mut out);
        out
    }))
}

fn squares(inputs: &Inputs, n: usize, deviation: f32) -> Result<[(Node, Arc<[f32]>); 3]> {
    let square = |name| inputs.array(name, &[n, n], deviation);
    Ok([square("a")?, square("b")?, square("c")?])
}

/// `x·W + 2·(x·A)·B` for x of `4 × 16 × width`.
pub(super) fn lora(width: usize, rank: usize) -> Result<Expression> {
    const ROWS: usize = 4 * 16;
    let inputs = Inputs::new();
    let (x, of_x) = inputs.array("x", &[4, 16, width], 1.0)?;
    let (w, of_w) = inputs.array("w", &[width, width], 0.05)?;
    let (a, of_a) = inputs.array("a", &[width, rank], 0.05)?;
    let (b, of_b) = inputs.array("b", &[rank, width], 0.05)?;
    let graph = &inputs.0;
    let (dense, inner) = (graph.matmul(x, w)?, graph.matmul(x, a)?);
    let delta = graph.matmul(inner, b)?;
    let steps = [(dense, 3), (inner, 2), (delta, 3), (graph.weighted_sum(&[dense, delta], &[1.0, 2.0])?, 3)];
    Ok(inputs.expression(format!("(4, 16, {width}), rank {rank}"), steps, move || {
        let (mut out, mut inner) = (vec![0.0; ROWS * width], vec![0.0; ROWS * rank]);
        multiply(&of_x, &of_w, [ROWS, width, width], Accum::Replace, 1.0, &mut out);
        multiply(&of_x, &of_a, [ROWS, width, rank], Accum::Replace, 1.0, &mut inner);
        multiply(&inner, &of_b, [ROWS, rank, width], Accum::Add, 2.0, &mut out);
        out
    }))
}

/// `softmax((a@b + c)·2)` of `n × n`.
pub(super) fn chain(n: usize) -> Result<Expression> {
    let inputs = Inputs::new();
    // So that the exponential function has results that are no denormal numbers.
    let [(a, of_a), (b, of_b), (c, of_c)] = squares(&inputs, n, 0.25)?;
    let graph = &inputs.0;
    let product = graph.matmul(a, b)?;
    let sum = graph.add(product, c)?;
    let scaled = graph.scale(sum, 2.0)?;
    let steps = [(product, 1), (sum, 2), (scaled, 3), (graph.softmax(scaled)?, 3)];
    Ok(inputs.expression(format!("{n} × {n}"), steps, move || {
        let mut out = of_c.to_vec();
        multiply(&of_a, &of_b, [n; 3], Accum::Add, 1.0, &mut out);
        for row in out.chunks_exact_mut(n) {
            for value in row.iter_mut() {
                *value *= 2.0;
            }
            softmax(row);
        }
        out
    }))
}

/// The softmax of `128 × 1024` by rows.
pub(super) fn softmaxes() -> Result<Expression> {
    let inputs = Inputs::new();
    let (x, of_x) = inputs.array("x", &[1, 128, 1024], 1.0)?;
    let node = inputs.0.softmax(x)?;
    Ok(inputs.expression("(1, 128, 1024)".into(), [(node, 0)], move || {
        let mut out = of_x.to_vec();
        out.chunks_exact_mut(1024).for_each(softmax);
        out
    }))
}

/// The RMS norm of `128 × 1024` by rows.
pub(super) fn rms_norms() -> Result<Expression> {
    let inputs = Inputs::new();
    let (x, of_x) = inputs.array("x", &[1, 128, 1024], 1.0)?;
    let (weight, of_weight) = inputs.array("weight", &[1024], 1.0)?;
    let node = inputs.0.rms_norm(x, weight, 1e-5)?;
    Ok(inputs.expression("(1, 128, 1024)".into(), [(node, 0)], move || {
        let mut out = of_x.to_vec();
        for row in out.chunks_exact_mut(1024) {
            let mean = row.iter().map(|value| value * value).sum::<f32>() / 1024.0;
            let factor = 1.0 / (mean + 1e-5).sqrt();
            row.iter_mut().zip(&*of_weight).for_each(|(value, weight)| *value *= factor * weight);
        }
        out
    }))
}

/// The sum of two vectors.
pub(super) fn add(n: usize) -> Result<Expression> {
    let inputs = Inputs::new();
    let ((a, of_a), (b, of_b)) = (inputs.array("a", &[n], 1.0)?, inputs.array("b", &[n], 1.0)?);
    let node = inputs.0.add(a, b)?;
    let by_hand = move || of_a.iter().zip(&*of_b).map(|(a, b)| a + b).collect();
    Ok(inputs.expression(n.to_string(), [(node, 0)], by_hand))
}

/// A product of matrices of `n × n`.
pub(super) fn product(n: usize) -> Result<Expression> {
    let inputs = Inputs::new();
    let [(a, of_a), (b, of_b), _] = squares(&inputs, n, 1.0)?;
    let node = inputs.0.matmul(a, b)?;
    Ok(inputs.expression(format!("{n} × {n}"), [(node, 0)], move || {
        let mut out = vec![0.0; n * n];
        multiply(&of_a, &of_b, [n; 3], Accum::Replace, 1.0, &mut out);
        out
    }))
}

/// Ten scalings of a vector; by hand in one pass.
pub(super) fn scalings(n: usize) -> Result<Expression> {
    let inputs = Inputs::new();
    let (x, of_x) = inputs.array("x", &[n], 1.0)?;
    let factors: [f32; 10] = std::array::from_fn(|i| 1.0 + i as f32 / 7.0);
    let (mut steps, mut node) = (Vec::new(), x);
    for (i, factor) in factors.iter().enumerate() {
        node = inputs.0.scale(node, *factor)?;
        steps.push((node, (i + 1).min(9)));
    }
    let by_hand = move || of_x.iter().map(|x| factors.iter().fold(*x, |x, factor| x * factor)).collect();
    Ok(inputs.expression(n.to_string(), steps, by_hand))
}

/// `out = accum·out + scale·a·b`; threads share the rows.
fn multiply(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], accum: Accum, scale: f32, out: &mut [f32]) {
    let rows = m.div_ceil(rayon::current_num_threads());
    let b = MatRef::from_row_major_slice(b, k, n);
    let part = |(a, out): (&[f32], &mut [f32])| {
        let m = a.len() / k;
        let (a, out) = (MatRef::from_row_major_slice(a, m, k), MatMut::from_row_major_slice_mut(out, m, n));
        matmul(out, accum, a, b, scale, Par::Seq);
    };
    // Small products would wait for the threads longer than they take.
    if m * k * n <= 1 << 22 {
        part((a, out));
    } else {
        a.par_chunks(rows * k).zip(out.par_chunks_mut(rows * n)).for_each(part);
    }
}

simd::kernel! {
    // As a kernel: faer's products leave the vector registers in a state in which the exponential
    // function of the standard library takes forty times as long in code without AVX.
    fn softmax<'a>(_simd, row: &'a mut [f32]) {
        let most = row.iter().fold(f32::NEG_INFINITY, |most, value| most.max(*value));
        for value in row.iter_mut() {
            *value = (*value - most).exp();
        }
        let factor = 1.0 / row.iter().sum::<f32>();
        for value in row {
            *value *= factor;
        }
    }
}
