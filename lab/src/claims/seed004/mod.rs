//! Seed 004: INT8 for small machines, on the shapes of GPT-2.

mod forms;
mod memory;
mod quality;

use anyhow::{Context, Result};
use harness::matrix::{Machine, load_average};
use runtime::{Bandwidth, Lengths};

use self::forms::{Files, Form, Kind, Products};
use self::memory::Memory;
use super::language::threads;
use crate::lab::Lab;
use crate::measure::{Table, beside, paragraph, significant};

/// A prompt as long as that of the report in GPT-2's tokens, and as many new tokens.
const PROTOCOL: Lengths = Lengths { prompt: 4, tokens: 50 };
/// Runs of each form, in turn.
const RUNS: usize = 3;
/// Times that the products alone are measured.
const PASSES: usize = 5;

/// What the report claims of a shape.
#[derive(Clone, Copy, Debug)]
struct Claim {
    name: &'static str,
    /// MB, dense and packed.
    sizes: [f64; 2],
    /// Tokens per second of INT8 by those of F32.
    speed: f64,
    /// Linear layers in INT8.
    layers: usize,
}

const SHAPES: [Claim; 4] = [
    Claim { name: "distilgpt2", sizes: [312.0, 87.0], speed: 0.39, layers: 22 },
    Claim { name: "gpt2", sizes: [475.0, 128.0], speed: 0.85, layers: 46 },
    Claim { name: "gpt2-medium", sizes: [1353.0, 356.0], speed: 0.93, layers: 94 },
    Claim { name: "gpt2-large", sizes: [2953.0, 767.0], speed: 0.99, layers: 142 },
];

/// What was measured of a form.
#[derive(Debug)]
struct Figures {
    resident: u64,
    grown: Option<u64>,
    /// Bytes that a token reads.
    token_bytes: u64,
    runs: Vec<f64>,
    /// Seconds of a token: the median of the runs, and the least.
    token: f64,
    fastest: f64,
    /// Of these, the products of the linear layers, and those of the head.
    products: [f64; 2],
}

/// What was measured of a shape.
struct Subject {
    claim: Claim,
    memory: Memory,
    forms: [Figures; 2],
    /// Bytes per second of reading memory.
    bandwidth: f64,
}

impl Subject {
    fn measure(lab: &Lab, claim: Claim, bandwidth: &Bandwidth) -> Result<Self> {
        eprintln!("measuring {}", claim.name);
        let folder = tempfile::tempdir().context("cannot make a directory for the models")?;
        let files = Files::write(lab, claim.name, folder.path())?;
        let memory = Memory::of(lab, &files.dense, &files.packed)?;
        let mut forms = [Form::open(lab, &files.dense)?, Form::open(lab, &files.packed)?];
        let mut read = Vec::new();
        for _ in 0..RUNS {
            forms.iter_mut().try_for_each(Form::run)?;
            read.push(bandwidth.measure()?);
        }
        let mut products = [[0.0; 2]; 2];
        for (i, kind) in [Kind::Linear, Kind::Embedding].into_iter().enumerate() {
            products[0][i] = fastest(&Products::dense(&files.dense, kind)?)?;
            products[1][i] = fastest(&Products::packed(lab, &files.packed, kind)?)?;
        }
        let [dense, packed] = forms;
        let forms = [figures(dense, products[0]), figures(packed, products[1])];
        Ok(Self { claim, memory, forms, bandwidth: median(&read) })
    }
}

fn fastest(products: &Products) -> Result<f64> {
    let seconds = (0..PASSES).map(|_| products.seconds()).collect::<Result<Vec<_>>>()?;
    Ok(least(&seconds))
}

fn figures(form: Form, products: [f64; 2]) -> Figures {
    Figures {
        resident: form.decoder.resident_bytes(),
        grown: form.grown,
        token_bytes: form.decoder.token_bytes(),
        token: median(&form.tokens),
        fastest: least(&form.tokens),
        runs: form.runs,
        products,
    }
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures all shapes, and what 8 bits do to a trained model.
pub(super) fn measure(lab: &Lab) -> Result<String> {
    let bandwidth = Bandwidth::new(threads())?;
    let subjects = SHAPES.map(|claim| Subject::measure(lab, claim, &bandwidth));
    drop(bandwidth);
    let subjects = subjects.into_iter().collect::<Result<Vec<_>>>()?;
    let memories: Vec<_> = subjects.iter().map(|subject| (subject.claim.name, subject.memory)).collect();
    let sections = [
        conditions(&subjects),
        memory_and_speed(&subjects),
        spread(&subjects),
        memory::table(&memories),
        work(&subjects),
        fixed_cost(&subjects)?,
        quality::section(lab)?,
    ];
    Ok(sections.join("\n"))
}

fn conditions(subjects: &[Subject]) -> String {
    let machine = Machine::this();
    let read: Vec<_> = subjects.iter().map(|subject| format!("{:.1}", subject.bandwidth / 1e9)).collect();
    paragraph(&format!(
        "Measured on: cpu {}, simd {}, {} threads, load {}. While the shapes were measured, the threads read memory at \
         {} GB/s. The weights of the shapes are random: the checkpoints are not at hand, and bytes and times do not \
         depend on the values. A value is followed by the claim of the report, and marked where it is worse; the \
         report's MB are compared with MiB, which they are. Its times are those of another machine, so that only \
         ratios are compared.",
        machine.cpu.as_deref().unwrap_or("unknown"),
        machine.simd,
        threads(),
        load_average().map_or("unknown".to_owned(), |load| format!("{load:.2}")),
        read.join(", "),
    ))
}

fn memory_and_speed(subjects: &[Subject]) -> String {
    let mut table = Table::new([
        "Shape",
        "INT8 layers",
        "F32, MiB",
        "int8, MiB",
        "less by",
        "Resident",
        "Process grew by",
        "F32, s",
        "int8, s",
        "Speed",
        "of read",
    ]);
    for Subject { claim, memory, forms: [dense, packed], bandwidth } in subjects {
        let [wide, narrow] = memory.total();
        let share = |claimed: [f64; 2]| 100.0 * (1.0 - claimed[1] / claimed[0]);
        let (less, claimed) = (share([wide, narrow]), share(claim.sizes));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let both = |of: fn(&Figures) -> Option<u64>| {
            [dense, packed]
                .map(|form| of(form).map_or("unknown".to_owned(), |bytes| format!("{:.0}", mib(bytes))))
                .join(" → ")
        };
        let speed = median(&dense.runs) / median(&packed.runs);
        let read =
            [dense, packed].map(|form| format!("{:.0} %", 100.0 * form.token_bytes as f64 / form.token / bandwidth));
        table.row([
            claim.name.to_owned(),
            beside(&memory.layers[0].to_string(), &claim.layers.to_string(), false),
            beside(&format!("{wide:.0}"), &claim.sizes[0].to_string(), false),
            beside(&format!("{narrow:.0}"), &claim.sizes[1].to_string(), narrow > claim.sizes[1] + 0.5),
            beside(&format!("{less:.1} %"), &format!("{claimed:.1} %"), less + 0.05 < claimed),
            both(|form| Some(form.resident)),
            both(|form| form.grown),
            format!("{:.2}", median(&dense.runs)),
            format!("{:.2}", median(&packed.runs)),
            beside(&format!("{speed:.2}x"), &format!("{}x", claim.speed), speed < claim.speed),
            read.join(", "),
        ]);
    }
    let text = "\
A prompt of 4 tokens and 50 tokens after it, as in the report, for both forms in one process, in turn; medians of \
                the runs below. `Resident` are the bytes that the weights keep in memory, in MiB, `Process grew by` \
                those by which opening the model and running two tokens let the process grow. All matrices have 8 \
                bits here: the report keeps two in F32. `of read`: bytes of the weights that a token reads, times \
                tokens per second, by the speed of reading memory.";
    table.under("Memory and Speed", text)
}

fn spread(subjects: &[Subject]) -> String {
    let mut table = Table::new(["Shape", "F32, s", "int8, s", "Speed of each run"]);
    for Subject { claim, forms: [dense, packed], .. } in subjects {
        let list = |values: &[f64], digits: usize| {
            values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(", ")
        };
        let speeds: Vec<f64> = dense.runs.iter().zip(&packed.runs).map(|(dense, packed)| dense / packed).collect();
        table.row([claim.name.to_owned(), list(&dense.runs, 3), list(&packed.runs, 3), list(&speeds, 2)]);
    }
    let text = "\
Seconds of each run. The report has 1.02x and 0.96x for gpt2-large in two runs, and 0.85x to 3.95x for gpt2.";
    table.under("Speed Breakdown", text)
}

fn work(subjects: &[Subject]) -> String {
    let mut table = Table::new(["Shape", "Form", "Token", "Linear layers", "Head", "Rest"]);
    for subject in subjects {
        for (name, form) in ["F32", "int8"].into_iter().zip(&subject.forms) {
            let [linear, head] = form.products;
            let part = |seconds: f64| format!("{:.2} ms, {:.0} %", 1e3 * seconds, 100.0 * seconds / form.fastest);
            table.row([
                subject.claim.name.to_owned(),
                name.to_owned(),
                format!("{:.2} ms", 1e3 * form.fastest),
                part(linear),
                part(head),
                part(form.fastest - linear - head),
            ]);
        }
    }
    let text = "\
Time of a token by kind of work, each the least of several runs. The products of the linear layers
and of the head are measured alone, with the same operators and threads, but without waiting for
each other after each matrix; conversion of the inputs to integers is a part of them. The rest is
attention, norms, activations and waiting. It is a difference of measured times and has the noise of
all of them, so that it may be below 0. No weight is decoded to floats: nothing corresponds to the
0.2 s of dequantisation for 50 tokens in the report, 35 % of the time on distilgpt2.";
    table.under("Time by Kind of Work", text)
}

fn fixed_cost(subjects: &[Subject]) -> Result<String> {
    let mut table = Table::new(["Form", "Fixed, for 50 tokens", "Read beyond it", "Largest error of the line"]);
    let tokens = PROTOCOL.tokens as f64;
    for (i, name) in ["F32", "int8"].into_iter().enumerate() {
        let points: Vec<_> =
            subjects.iter().map(|subject| (subject.forms[i].token_bytes as f64, subject.forms[i].token)).collect();
        let (fixed, slope) = line(&points).context("four different shapes")?;
        let errors = points.iter().map(|(bytes, seconds)| (100.0 * ((fixed + slope * bytes) / seconds - 1.0)).abs());
        let shown = format!("{} s", significant(tokens * fixed));
        table.row([
            name.to_owned(),
            if i == 1 { beside(&shown, "0.2–0.3 s", tokens * fixed > 0.3) } else { shown },
            format!("{:.1} GB/s", 1e-9 / slope),
            format!("{:.0} %", errors.fold(0.0, f64::max)),
        ]);
    }
    let text = "\
The line through the four shapes with the least squared relative error: seconds of a token = fixed + bytes that it \
                reads / speed. The report takes the fixed cost of INT8 for constant.";
    Ok(table.under("Fixed Overhead Scaling", text))
}

/// The line `y = a + b·x` with the least sum of `((a + b·x − y)/y)²`; `None` for points on one x.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let sum = |f: fn(f64, f64) -> f64| points.iter().map(|(x, y)| f(*x, *y) / (y * y)).sum::<f64>();
    let [n, x, y] = [sum(|_, _| 1.0), sum(|x, _| x), sum(|_, y| y)];
    let [xx, xy] = [sum(|x, _| x * x), sum(|x, y| x * y)];
    let determinant = n * xx - x * x;
    let slope = (n * xy - x * y) / determinant;
    (determinant > 1e-12 * n * xx).then_some(((y - slope * x) / n, slope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_points_on_it() {
        let (a, b) = line(&[(1.0, 5.0), (2.0, 7.0), (10.0, 23.0)]).unwrap();
        assert!((a - 3.0).abs() < 1e-9 && (b - 2.0).abs() < 1e-9, "{a}, {b}");
        assert!(line(&[(1.0, 5.0), (1.0, 7.0)]).is_none());
    }
}
