//! Seed 002: SeedLM with progressive encoding, beside BitNet and VPTQ.

mod gaussian;
mod layers;
mod models;
mod thirty;

use anyhow::Result;

use crate::measure::{Bench, Table};
use crate::tree::Tree;

/// A method of the seed, and the codec that answers it.
#[derive(Clone, Copy)]
struct Method {
    name: &'static str,
    spec: &'static str,
    /// What the codec is to the method, in words.
    remark: &'static str,
}

const FOUR_BIT: Method =
    Method { name: "SeedLM Progressive, 4 bits", spec: "seedlm:preset=4bit", remark: "the default, one quality level" };
const THREE_BIT: Method = Method {
    name: "SeedLM Progressive, 3 bits",
    spec: "seedlm:preset=3bit",
    remark: "the same with fewer bits, beside the same claims",
};
const LEGACY: Method = Method {
    name: "SeedLM Legacy",
    spec: "seedlm:per_octave=1:refine=false",
    remark: "the paper's format to the letter, 4 bits",
};
const ABSMEAN: Method = Method {
    name: "BitNet, absmean",
    spec: "quant.ternary:preset=absmean",
    remark: "BitNet b1.58, five weights to a byte",
};
const LEAST_SQUARES: Method = Method {
    name: "BitNet, least squares",
    spec: "quant.ternary:preset=least-squares",
    remark: "the same format with the scale of least error",
};

const VECTORS_FOUR_BIT: Method = Method {
    name: "VPTQ, 4 bits",
    spec: "quant.vector:preset=4bit",
    remark: "pairs of weights, a codebook for each tensor, without VPTQ's calibration",
};
const VECTORS_TWO_BIT: Method = Method {
    name: "VPTQ, 2 bits",
    spec: "quant.vector:preset=2bit",
    remark: "the same with vectors of four, beside the same claims",
};

/// The ratio that the seed gives `BitNet` on everything.
const BITNET_RATIO: f64 = 8.0;

const INTRODUCTION: &str = "\
The tables have the names that they have in the seed's report; the last sections, on 30x, go beyond it. A cell is the
value measured here, then the seed's claim in parentheses; where the measured value is worse, it says so. The rows of
BitNet and VPTQ in the report were simulated, their ratios constants. Here every value comes from weights that were
encoded, written as bytes, read back and decoded, and whose error was checked against the bound that the encoder
certified. Ratios are dense F32 bytes to all section bytes of the payload. Errors are relative Frobenius errors, ‖w −
ŵ‖/‖w‖: decoding everything to zeros has 1, and a claim above 1 is worse than that. ± is one standard deviation. Sizes
and errors are the same on every machine; times and speeds are one thread's, in this run. The report's last table, of
the accuracy that published methods preserve, does not say what it measures and is left out.";

fn introduction() -> String {
    let mut table = Table::new(["Method of the seed", "Codec here"]);
    for Method { name, spec, remark } in layers::METHODS.map(|(method, _)| method) {
        table.row([name, &format!("`{spec}`: {remark}")]);
    }
    table.under("How to read this", INTRODUCTION)
}

fn code(spec: &str) -> String {
    format!("`{spec}`")
}

/// Measures every table of the report.
pub(super) fn measure(tree: &Tree) -> Result<String> {
    let layers = Bench::run(tree, layers::SUITE, layers::specs().union(&thirty::specs()).copied().collect())?;
    let gaussian =
        Bench::run(tree, gaussian::SUITE, gaussian::specs().into_iter().chain(thirty::gaussian_specs()).collect())?;
    let trained = Bench::run(tree, &tree.layers(), thirty::specs())?;
    let models = Bench::run(tree, models::SUITE, models::specs())?;
    let runs: String = [&layers, &gaussian, &trained, &models].map(Bench::conditions).concat();
    let about_thirty = thirty::Runs { gaussian: &gaussian, layers: &layers, trained: &trained };
    let mut sections = vec![
        format!("The runs of `netweight bench` behind it:\n\n{runs}"),
        introduction(),
        layers::ratios(&layers)?,
        layers::accuracy(&layers)?,
        layers::speed(&layers)?,
        gaussian::levels(&gaussian)?,
        gaussian::enhancement(&gaussian)?,
        models::full_models(&models)?,
    ];
    sections.extend(thirty::sections(&about_thirty)?);
    Ok(sections.join("\n"))
}
