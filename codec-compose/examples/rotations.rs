//! The effect of `hadamard`: relative errors, in per cent, of codecs alone and with rotated rows.
//!
//! `cargo run --release -p netweight-codec-compose --example rotations` prints the table of the
//! module `codec_compose::hadamard`. Arguments replace the default codecs; arguments of the form
//! `KEY=VALUE` go to `hadamard`.

use std::error::Error;
use std::sync::Arc;

use codec_api::{Codec, CodecError, DecodeCx, EncodeCx, EncodedTensor, Registry};
use codec_compose as _;
use codec_lossless as _;
use codec_quant as _;
use codec_sparse as _;
use harness::suite::{Item, Suite, SuiteOptions};
use harness::testing::weights;

const CODECS: [&str; 7] = [
    "quant.int:bits=4:group=row",
    "quant.int:bits=4:group=128:symmetric=false",
    "quant.nf4",
    "quant.mxfp4",
    "quant.q4_0",
    "quant.ternary:scope=row",
    "sparse.prune(quant.int:bits=8):density=0.5",
];

const SUITES: [&str; 5] =
    ["gaussian", "laplace", "scale-mixed", "model:assets/stories260k", "model:assets/gpt2_mini_layers"];

/// Side length of the synthetic matrices.
const SIDE: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::linked()?;
    let (keys, mut codecs): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|arg| arg.contains('=') && !arg.contains(':'));
    if codecs.is_empty() {
        codecs = CODECS.map(str::to_owned).to_vec();
    }
    let cases = cases()?;
    let titles: Vec<_> = cases.iter().map(|case| case.title.as_str()).collect();
    println!("| codec | {} |\n|---|{}", titles.join(" | "), "---|".repeat(titles.len()));
    for alone in codecs {
        let rotated = [format!("hadamard({alone})")].iter().chain(&keys).cloned().collect::<Vec<_>>().join(":");
        let both = [registry.parse_spec(&alone)?, registry.parse_spec(&rotated)?];
        let cells = cases.iter().map(|case| cell(case, &both)).collect::<Result<Vec<_>, _>>()?;
        println!("| `{alone}` | {} |", cells.join(" | "));
    }
    Ok(())
}

/// Matrices with a common error.
struct Case {
    title: String,
    suite: Suite,
    /// Whether the error of a column counts.
    counts: fn(usize) -> bool,
}

/// Suites of the harness, and matrices with outliers.
fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let mut cases = Vec::new();
    for name in SUITES {
        let title = format!("`{}`", name.trim_start_matches("model:assets/"));
        cases.push(Case { title, suite: Suite::parse(name, &SuiteOptions::default())?, counts: |_| true });
    }
    let normal = weights("gaussian:2048x2048", 4 * SIDE * SIDE);
    let (w, rest) = normal.split_at(SIDE * SIDE);
    let chi_squares = rest.chunks(3).map(|x| x.iter().map(|x| x * x).sum::<f32>());
    let student = w.iter().zip(chi_squares).map(|(w, chi_square)| w / (chi_square / 3.0).sqrt()).collect();
    let loud = |loud: fn(usize) -> bool| {
        let values = w.iter().enumerate().map(|(i, w)| if loud(i % SIDE) { 10.0 * w } else { *w });
        values.collect::<Vec<f32>>()
    };
    let mut add = |title: &str, values: Vec<f32>, counts| -> Result<(), CodecError> {
        let item = Item::from_f32(title, &[SIDE, SIDE], &values)?;
        cases.push(Case { title: title.to_owned(), suite: Suite::new(title, 0, vec![item]), counts });
        Ok(())
    };
    add("Student's t", student, |_| true)?;
    add("loud columns", loud(|column| column % 100 == 7), |_| true)?;
    add("128 loud columns", loud(|column| column < 128), |_| true)?;
    add("beside 128 loud columns", loud(|column| column < 128), |column| column >= 128)?;
    Ok(cases)
}

/// The errors of both codecs over the matrices that both accept.
fn cell(case: &Case, both: &[Arc<dyn Codec>; 2]) -> Result<String, Box<dyn Error>> {
    let (mut errors, mut energy) = ([0.0; 2], 0.0);
    let taken =
        |item: &&Item| item.spec.shape().len() > 1 && both.iter().all(|codec| codec.accepts(&item.spec).is_ok());
    for item in case.suite.items.iter().filter(taken) {
        let ((_, columns), source) = (item.spec.matrix(), item.to_f32()?);
        let squares = |values: &mut dyn Iterator<Item = f32>| {
            let counted = values.enumerate().filter(|(i, _)| (case.counts)(i % columns));
            counted.map(|(_, v)| f64::from(v) * f64::from(v)).sum::<f64>()
        };
        energy += squares(&mut source.iter().copied());
        for (error, codec) in errors.iter_mut().zip(both) {
            let decoded = decoded(codec, item)?;
            *error += squares(&mut source.iter().zip(&decoded).map(|(w, d)| w - d));
        }
    }
    let [alone, rotated] = errors.map(|error: f64| 100.0 * (error / energy).sqrt());
    Ok(format!("{alone:.1} → {rotated:.1}"))
}

fn decoded(codec: &Arc<dyn Codec>, item: &Item) -> Result<Vec<f32>, CodecError> {
    EncodedTensor::encode(codec.clone(), item.view()?, &EncodeCx::new(0))?.decode(&DecodeCx::new())
}
