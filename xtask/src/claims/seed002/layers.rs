//! The tables over single layers: ratios, accuracy, speed.

use std::collections::BTreeSet;

use anyhow::Result;

use super::super::bench::Bench;
use super::super::table::{Table, beside, error_beside, ratio_beside, significant, thousands};
use super::{ABSMEAN, FOUR_BIT, LEAST_SQUARES, LITERAL, THREE_BIT};

pub(super) const SUITE: &str = "seed002/layers";

/// Name in the seed and tensor of the suite.
const LAYERS: [(&str, &str); 6] = [
    ("Linear Small (64×128)", "linear_small.weight"),
    ("Linear Medium (256×512)", "linear_medium.weight"),
    ("Linear Large (512×1024)", "linear_large.weight"),
    ("Conv 3×3 (64,32,3,3)", "conv_3x3.weight"),
    ("Conv 1×1 (128,256,1,1)", "conv_1x1.weight"),
    ("Embedding (1000×256)", "embedding.weight"),
];

/// What the seed says about a method.
struct Claims {
    /// Layer by layer.
    ratios: [f64; 6],
    /// Mean and standard deviation.
    error: (f64, f64),
    max_error: f64,
    mse: f64,
    /// Mean and standard deviation.
    seconds: (f64, f64),
    kiloweights_per_second: f64,
}

const PROGRESSIVE: Claims = Claims {
    ratios: [4.2, 4.5, 4.8, 3.9, 4.1, 4.7],
    error: (0.845, 0.312),
    max_error: 1.987,
    mse: 0.428,
    seconds: (12.45, 8.23),
    kiloweights_per_second: 4.2,
};

const LEGACY: Claims = Claims {
    ratios: [3.8, 4.1, 4.3, 3.6, 3.9, 4.2],
    error: (1.123, 0.441),
    max_error: 2.834,
    mse: 0.892,
    seconds: (8.67, 5.91),
    kiloweights_per_second: 6.1,
};

const BITNET: Claims = Claims {
    ratios: [8.0; 6],
    error: (0.234, 0.089),
    max_error: 0.567,
    mse: 0.045,
    seconds: (0.12, 0.04),
    kiloweights_per_second: 425.0,
};

const VPTQ: Claims = Claims {
    ratios: [6.0; 6],
    error: (0.445, 0.156),
    max_error: 1.023,
    mse: 0.134,
    seconds: (0.34, 0.11),
    kiloweights_per_second: 152.0,
};

/// A codec with the claims that it answers.
struct Method {
    name: &'static str,
    /// `None`: the codec joins later.
    spec: Option<&'static str>,
    claims: Claims,
}

const METHODS: [Method; 6] = [
    Method { name: "SeedLM Progressive, 4 bits", spec: Some(FOUR_BIT), claims: PROGRESSIVE },
    Method { name: "SeedLM Progressive, 3 bits", spec: Some(THREE_BIT), claims: PROGRESSIVE },
    Method { name: "SeedLM Legacy", spec: Some(LITERAL), claims: LEGACY },
    Method { name: "BitNet, absmean", spec: Some(ABSMEAN), claims: BITNET },
    Method { name: "BitNet, least squares", spec: Some(LEAST_SQUARES), claims: BITNET },
    Method { name: "VPTQ", spec: None, claims: VPTQ },
];

pub(super) fn specs() -> BTreeSet<&'static str> {
    METHODS.iter().filter_map(|method| method.spec).collect()
}

pub(super) fn ratios(bench: &Bench) -> Result<String> {
    let mut table = Table::new(["Layer Type"].into_iter().chain(METHODS.iter().map(|method| method.name)));
    for (i, (name, tensor)) in LAYERS.into_iter().enumerate() {
        let mut cells = vec![name.to_owned()];
        for method in &METHODS {
            let claim = method.claims.ratios[i];
            cells.push(match method.spec {
                Some(spec) => ratio_beside(bench.cell(spec, tensor)?.ratio(), claim),
                None => later(&format!("{claim:?}x")),
            });
        }
        table.row(cells);
    }
    let text = "The size of a SeedLM block is fixed, so its ratio does not depend on the layer; two bytes for the \
        tensor's exponent and the last, shorter block are all that is added.";
    Ok(table.under("Compression Ratios by Layer Type", text))
}

pub(super) fn accuracy(bench: &Bench) -> Result<String> {
    let mut table = Table::new(["Method", "Mean Relative Error", "Max Relative Error", "MSE"]);
    for Method { name, spec, claims } in &METHODS {
        let claim = plain_spread(claims.error);
        let Some(spec) = spec else {
            let [max, mse] = [claims.max_error, claims.mse].map(|claim| later(&claim.to_string()));
            table.row([(*name).to_owned(), later(&claim), max, mse]);
            continue;
        };
        let column = bench.column(spec, "")?;
        let error = column.error_spread();
        table.row([
            (*name).to_owned(),
            beside(&spread(error), &claim, error.0 > claims.error.0),
            error_beside(column.max_error(), claims.max_error),
            error_beside(column.mean_mse(), claims.mse),
        ]);
    }
    let text = "Over the six layers. The MSE is the mean of the layers' own and depends on the scale of the \
        weights: nearly all of it is the embedding's, whose weights are N(0,1). The relative errors are what can be \
        compared. The seed's mean for BitNet is below what the best scale leaves of weights that are rounded to −1, 0, \
        +1: 1/3 of uniform ones, 0.436 of Gaussian ones.";
    Ok(table.under("Reconstruction Accuracy", text))
}

pub(super) fn speed(bench: &Bench) -> Result<String> {
    let mut table = Table::new(["Method", "Mean Time (seconds per layer)", "Weights per second"]);
    for Method { name, spec, claims } in &METHODS {
        let time_claim = plain_spread(claims.seconds);
        let speed_claim = format!("{}K", claims.kiloweights_per_second);
        let Some(spec) = spec else {
            table.row([(*name).to_owned(), later(&time_claim), later(&speed_claim)]);
            continue;
        };
        let column = bench.column(spec, "")?;
        let (time, speed) = (column.encode_spread(), column.weights_per_second());
        table.row([
            (*name).to_owned(),
            beside(&spread(time), &time_claim, time.0 > claims.seconds.0),
            beside(&thousands(speed), &speed_claim, speed < 1e3 * claims.kiloweights_per_second),
        ]);
    }
    let text = "Encoding on one thread; weights per second are all weights of the six layers by the sum of their \
        times. SeedLM's search is exact: it finds the best of all 65,535 seeds.";
    Ok(table.under("Compression Speed", text))
}

fn spread((mean, deviation): (f64, f64)) -> String {
    format!("{} ± {}", significant(mean), significant(deviation))
}

/// As the seed writes it.
fn plain_spread((mean, deviation): (f64, f64)) -> String {
    format!("{mean} ± {deviation}")
}

fn later(claim: &str) -> String {
    format!("joins later (claim {claim})")
}
