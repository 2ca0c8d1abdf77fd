//! Seed 002: SeedLM with progressive encoding, compared with BitNet and VPTQ.

mod gaussian;
mod layers;
mod models;
mod preserved;
mod thirty;

use anyhow::Result;

use crate::lab::Lab;
use crate::measure::{Bench, Table};

/// A method of the seed, and the codec measured for it.
#[derive(Clone, Copy)]
struct Method {
    name: &'static str,
    spec: &'static str,
    /// How the codec relates to the method.
    remark: &'static str,
}

const FOUR_BIT: Method =
    Method { name: "SeedLM Progressive, 4 bits", spec: "seedlm:preset=4bit", remark: "the default, one quality level" };
const THREE_BIT: Method = Method {
    name: "SeedLM Progressive, 3 bits",
    spec: "seedlm:preset=3bit",
    remark: "the same with fewer bits, against the same claims",
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
    remark: "the same format; the scale minimises the error",
};

const VECTORS_FOUR_BIT: Method = Method {
    name: "VPTQ, 4 bits",
    spec: "quant.vector:preset=4bit",
    remark: "pairs of weights, one codebook per tensor, no calibration",
};
const VECTORS_TWO_BIT: Method = Method {
    name: "VPTQ, 2 bits",
    spec: "quant.vector:preset=2bit",
    remark: "the same with vectors of four, against the same claims",
};

/// The seed's ratio of `BitNet`, everywhere.
const BITNET_RATIO: f64 = 8.0;

const INTRODUCTION: &str = "\
The tables have the names of the tables in the seed's report; the last sections, on 30x, go beyond
it. A cell is the value measured here, then the seed's claim in parentheses; a measured value that
is worse than the claim is marked. The report simulated BitNet and VPTQ: their ratios are constants.
Here every value comes from weights that were encoded, written as bytes, read back and decoded, and
the error that the file certifies was measured again. Ratios are dense F32 bytes
divided by the bytes of all sections of the payload. Errors are relative Frobenius errors,
‖w − ŵ‖/‖w‖: a decoder that returns only zeros has an error of 1, and a claim above 1 is worse than
that. ± is one standard deviation. Sizes and errors are the same on every machine; times and speeds
are those of one thread in this run.";

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
pub(super) fn measure(lab: &Lab) -> Result<String> {
    let layers = Bench::run(lab, layers::SUITE, layers::specs().union(&thirty::specs()).copied().collect())?;
    let gaussian =
        Bench::run(lab, gaussian::SUITE, gaussian::specs().into_iter().chain(thirty::gaussian_specs()).collect())?;
    let trained = Bench::run(lab, &lab.layers(), thirty::specs())?;
    let models = Bench::run(lab, models::SUITE, models::specs())?;
    let runs: String = [&layers, &gaussian, &trained, &models].map(Bench::conditions).concat();
    let about_thirty = thirty::Runs { gaussian: &gaussian, layers: &layers, trained: &trained };
    let mut sections = vec![
        format!("Measured on:\n\n{runs}"),
        introduction(),
        layers::ratios(&layers)?,
        layers::accuracy(&layers)?,
        layers::speed(&layers)?,
        gaussian::levels(&gaussian)?,
        gaussian::enhancement(&gaussian)?,
        models::full_models(&models)?,
        preserved::section(lab)?,
    ];
    sections.extend(thirty::sections(&about_thirty)?);
    Ok(sections.join("\n"))
}
