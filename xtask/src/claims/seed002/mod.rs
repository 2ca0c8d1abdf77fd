//! Seed 002: SeedLM with progressive encoding, beside BitNet and VPTQ.

mod gaussian;
mod layers;
mod models;

use anyhow::Result;

use super::bench::Bench;
use crate::tree::Tree;

/// The codec of "`SeedLM` Progressive".
const FOUR_BIT: &str = "seedlm:preset=4bit";
/// The same format with fewer bits.
const THREE_BIT: &str = "seedlm:preset=3bit";
/// The codec of "`SeedLM` Legacy": the paper's format to the letter.
const LITERAL: &str = "seedlm:per_octave=1:refine=false";
/// The codec of "`BitNet`": b1.58's rounding.
const ABSMEAN: &str = "quant.ternary:preset=absmean";
/// `BitNet`'s format with the scale of least error.
const LEAST_SQUARES: &str = "quant.ternary:preset=least-squares";

const INTRODUCTION: &str = "\
## How to read this

The tables have the names that they have in the seed's report. A cell is the value measured here, then the seed's
claim in parentheses; where the measured value is worse, it says so. The rows of BitNet and VPTQ in the report were
simulated, their ratios constants. Here every value comes from weights that were encoded, written as bytes, read back
and decoded, and whose error was checked against the bound that the encoder certified. Ratios are dense F32 bytes to
all section bytes of the payload. Errors are relative Frobenius errors, ‖w − ŵ‖/‖w‖: decoding everything to zeros has
1, and a claim above 1 is worse than that. ± is one standard deviation. Sizes and errors are the same on every
machine; times and speeds are one thread's, in this run. The report's last table, of the accuracy that published
methods preserve, does not say what it measures and is left out.

| Method of the seed | Codec here |
|---|---|
| SeedLM Progressive | `seedlm:preset=4bit`, and `seedlm:preset=3bit` beside the same claims |
| SeedLM Legacy | `seedlm:per_octave=1:refine=false`, the paper's format to the letter, 4 bits |
| BitNet, absmean | `quant.ternary:preset=absmean`: BitNet b1.58, five weights to a byte |
| BitNet, least squares | `quant.ternary:preset=least-squares`: the same format with the scale of least error |
| VPTQ | joins later |
";

/// Measures every table of the report.
pub(super) fn measure(tree: &Tree) -> Result<String> {
    let layers = Bench::run(tree, layers::SUITE, layers::specs())?;
    let gaussian = Bench::run(tree, gaussian::SUITE, gaussian::specs())?;
    let models = Bench::run(tree, models::SUITE, models::specs())?;
    let runs: String = [&layers, &gaussian, &models].map(Bench::conditions).concat();
    let sections = [
        format!("The runs of `netweight bench` behind it:\n\n{runs}"),
        INTRODUCTION.to_owned(),
        layers::ratios(&layers)?,
        layers::accuracy(&layers)?,
        layers::speed(&layers)?,
        gaussian::levels(&gaussian)?,
        gaussian::enhancement(&gaussian)?,
        models::full_models(&models)?,
        gaussian::thirty(&gaussian)?,
    ];
    Ok(sections.join("\n"))
}
