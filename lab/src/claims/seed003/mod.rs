//! Seed 003: the kernels of a transformer, and lazy graphs.

mod graphs;

use std::hint::black_box;

use anyhow::Result;
use codec_api::util::transpose;
use codec_api::{Dtype, Inputs, LinearOp, Product, TensorSpec, TensorView};
use harness::matrix::Machine;
use runtime::{dense_operator, low_rank_product, rms_norm, softmax};

use super::timing::{Times, normal};
use crate::lab::Lab;
use crate::measure::{Table, beside, paragraph};

/// Rows of the inputs.
const ROWS: usize = 128;
/// Values of a row in softmax and norm.
const WIDTH: usize = 1024;
/// Inputs and outputs of the linear layer, rank and scale of its LoRA.
const SIDE: usize = 512;
const RANK: usize = 8;
const ALPHA: f32 = 16.0;
const EPSILON: f32 = 1e-5;
/// Measured calls.
const RUNS: usize = 1001;

const INTRODUCTION: &str = "\
The report compares kernels that do a whole operation with compositions of general ones, on shapes
that stand in the table, in F32. Here the kernel is that of the decoder, and the composition makes
one pass over the values for each step of the formula, into buffers that are allocated before, on
one thread. Times are medians, with the fifth and the ninety-fifth percentile. A ratio is the time of
the composition by that of the kernel; the claim of the report follows, and is marked if the
measured value is worse. For LoRA, the kernel is `y = W·x + (alpha/rank)·B·(A·x)` with `B` other
than 0, as layers with an adapter compute it; the composition has the same products, and scales and
adds in passes of their own. The report's own figures for LoRA, 35.78 and 36.51 µs, make the
kernel 2 % slower, not 1.02x faster.";

/// Kernel and composition of a softmax over each row.
fn of_softmax() -> [Times; 2] {
    let x = normal("softmax", ROWS * WIDTH, 1.0);
    let (mut y, mut z) = (x.clone(), x.clone());
    let mut kernel = || {
        y.copy_from_slice(black_box(&x));
        y.chunks_exact_mut(WIDTH).for_each(softmax);
        black_box(&y);
    };
    let mut steps = || {
        for (x, z) in black_box(&x).chunks_exact(WIDTH).zip(z.chunks_exact_mut(WIDTH)) {
            let most = x.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
            z.iter_mut().zip(x).for_each(|(z, x)| *z = x - most);
            for z in z.iter_mut() {
                *z = z.exp();
            }
            let sum: f32 = z.iter().sum();
            for z in z.iter_mut() {
                *z /= sum;
            }
        }
        black_box(&z);
    };
    Times::of(RUNS, [&mut kernel, &mut steps])
}

/// Kernel and composition of an RMS norm of each row.
fn of_norm() -> [Times; 2] {
    let (x, weight) = (normal("norm", ROWS * WIDTH, 1.0), normal("weight", WIDTH, 1.0));
    let (mut y, mut z) = (x.clone(), x.clone());
    let mut kernel = || {
        for (x, y) in black_box(&x).chunks_exact(WIDTH).zip(y.chunks_exact_mut(WIDTH)) {
            rms_norm(x, &weight, EPSILON, y);
        }
        black_box(&y);
    };
    let mut steps = || {
        for (x, z) in black_box(&x).chunks_exact(WIDTH).zip(z.chunks_exact_mut(WIDTH)) {
            z.iter_mut().zip(x).for_each(|(z, x)| *z = x * x);
            let root = (z.iter().sum::<f32>() / WIDTH as f32 + EPSILON).sqrt();
            z.iter_mut().zip(x).for_each(|(z, x)| *z = x / root);
            z.iter_mut().zip(&weight).for_each(|(z, weight)| *z *= weight);
        }
        black_box(&z);
    };
    Times::of(RUNS, [&mut kernel, &mut steps])
}

fn operator(values: &[f32], rows: usize) -> Result<Box<dyn LinearOp>> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let spec = TensorSpec::new(Dtype::F32, [rows, values.len() / rows])?;
    Ok(dense_operator(&TensorView::new(spec, &bytes)?)?)
}

/// The linear layer alone, with LoRA beside it, and with LoRA step by step.
fn of_lora() -> Result<[Times; 3]> {
    let [w, a, b] = [("w", SIDE * SIDE), ("a", RANK * SIDE), ("b", SIDE * RANK)].map(|(name, n)| normal(name, n, 0.05));
    let x = normal("x", ROWS * SIDE, 1.0);
    let scale = ALPHA / RANK as f32;
    let [whole, inner, outer] = [operator(&w, SIDE)?, operator(&a, RANK)?, operator(&b, SIDE)?];
    let mut y = vec![0.0; SIDE * ROWS];
    let mut forward = |adapted: bool| -> Result<()> {
        let x = Inputs::new(black_box(&x), ROWS)?;
        whole.apply(Product::Forward, 0..SIDE, &x, &mut y)?;
        if adapted {
            low_rank_product([&*inner, &*outer], scale, 0..SIDE, &x, &mut y)?;
        }
        black_box(&y);
        Ok(())
    };
    forward(true)?;
    let [plain] = Times::of(RUNS, [&mut || drop(forward(false))]);
    let [adapted] = Times::of(RUNS, [&mut || drop(forward(true))]);
    let [mut z, mut added] = [SIDE * ROWS, SIDE * ROWS].map(|n| vec![0.0; n]);
    let [mut hidden, mut turned] = [RANK * ROWS, RANK * ROWS].map(|n| vec![0.0; n]);
    let mut steps = || -> Result<()> {
        let x = Inputs::new(black_box(&x), ROWS)?;
        whole.apply(Product::Forward, 0..SIDE, &x, &mut z)?;
        inner.apply(Product::Forward, 0..RANK, &x, &mut hidden)?;
        transpose((RANK, ROWS), &hidden, &mut turned);
        outer.apply(Product::Forward, 0..SIDE, &Inputs::new(&turned, ROWS)?, &mut added)?;
        for added in &mut added {
            *added *= scale;
        }
        z.iter_mut().zip(&added).for_each(|(z, added)| *z += added);
        black_box(&z);
        Ok(())
    };
    steps()?;
    let [steps] = Times::of(RUNS, [&mut || drop(steps())]);
    Ok([plain, adapted, steps])
}

/// Measures kernels and graphs.
pub(super) fn measure(_: &Lab) -> Result<String> {
    let machine = Machine::this();
    let mut table = Table::new(["Operation", "Shape", "Kernel", "Composition", "Ratio"]);
    let mut add = |name: &str, shape: &str, [kernel, steps]: [&Times; 2], claim: f64| {
        let ratio = steps.median() / kernel.median();
        let found = beside(&format!("{ratio:.2}x"), &format!("{claim}x"), ratio < claim);
        table.row([name, shape, &kernel.text(), &steps.text(), &found]);
    };
    let [plain, adapted, steps] = of_lora()?;
    let ([soft, soft_steps], [norm, norm_steps]) = (of_softmax(), of_norm());
    add("LoRA", "(1, 128, 512), rank 8, alpha 16", [&adapted, &steps], 1.02);
    add("softmax", "(1, 128, 1024)", [&soft, &soft_steps], 1.16);
    add("RMS norm", "(1, 128, 1024), eps 1e-5", [&norm, &norm_steps], 2.01);
    let beside_plain = adapted.median() / plain.median();
    let lora = format!(
        "The layer without LoRA takes {}: with it, {beside_plain:.2} times as long, for {:.1} % more multiplications.",
        plain.text(),
        100.0 * (2 * RANK) as f64 / SIDE as f64,
    );
    let conditions = format!(
        "Measured on: cpu {}, simd {}, {} threads; kernels on one thread, {RUNS} calls of each.",
        machine.cpu.as_deref().unwrap_or("unknown"),
        machine.simd,
        rayon::current_num_threads(),
    );
    let kernels = table.under("Custom Kernels", INTRODUCTION);
    Ok([paragraph(&conditions), kernels, paragraph(&lora), graphs::measure()?].join("\n"))
}
