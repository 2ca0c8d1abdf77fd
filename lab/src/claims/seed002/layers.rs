//! The tables of single layers: ratios, accuracy, speed.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{
    ABSMEAN, BITNET_RATIO, FOUR_BIT, LEAST_SQUARES, LEGACY, Method, THREE_BIT, VECTORS_FOUR_BIT, VECTORS_TWO_BIT,
};
use crate::measure::{Bench, Table, beside, error_beside, ratio_beside, significant, thousands};

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

/// The seed's claims about a method.
pub(super) struct Claims {
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

const PROGRESSIVE_CLAIMS: Claims = Claims {
    ratios: [4.2, 4.5, 4.8, 3.9, 4.1, 4.7],
    error: (0.845, 0.312),
    max_error: 1.987,
    mse: 0.428,
    seconds: (12.45, 8.23),
    kiloweights_per_second: 4.2,
};

const LEGACY_CLAIMS: Claims = Claims {
    ratios: [3.8, 4.1, 4.3, 3.6, 3.9, 4.2],
    error: (1.123, 0.441),
    max_error: 2.834,
    mse: 0.892,
    seconds: (8.67, 5.91),
    kiloweights_per_second: 6.1,
};

const BITNET_CLAIMS: Claims = Claims {
    ratios: [BITNET_RATIO; 6],
    error: (0.234, 0.089),
    max_error: 0.567,
    mse: 0.045,
    seconds: (0.12, 0.04),
    kiloweights_per_second: 425.0,
};

const VPTQ_CLAIMS: Claims = Claims {
    ratios: [6.0; 6],
    error: (0.445, 0.156),
    max_error: 1.023,
    mse: 0.134,
    seconds: (0.34, 0.11),
    kiloweights_per_second: 152.0,
};

/// Each method with its claims.
pub(super) const METHODS: [(Method, Claims); 7] = [
    (FOUR_BIT, PROGRESSIVE_CLAIMS),
    (THREE_BIT, PROGRESSIVE_CLAIMS),
    (LEGACY, LEGACY_CLAIMS),
    (ABSMEAN, BITNET_CLAIMS),
    (LEAST_SQUARES, BITNET_CLAIMS),
    (VECTORS_FOUR_BIT, VPTQ_CLAIMS),
    (VECTORS_TWO_BIT, VPTQ_CLAIMS),
];

pub(super) fn specs() -> BTreeSet<&'static str> {
    METHODS.iter().map(|(method, _)| method.spec).collect()
}

pub(super) fn ratios(bench: &Bench) -> Result<String> {
    let names = METHODS.iter().map(|(method, _)| method.name);
    let mut table = Table::new(["Layer Type"].into_iter().chain(names));
    for (i, (name, tensor)) in LAYERS.into_iter().enumerate() {
        let mut cells = vec![name.to_owned()];
        for (method, claims) in &METHODS {
            cells.push(ratio_beside(bench.cell(method.spec, tensor)?.ratio(), claims.ratios[i]));
        }
        table.row(cells);
    }
    let text = "The size of a SeedLM block is fixed, so the ratio hardly depends on the layer: a \
        tensor adds only two bytes for its exponent and the last, shorter block. VPTQ stores one \
        codebook per layer, which costs most in the smallest layer.";
    Ok(table.under("Compression Ratios by Layer Type", text))
}

pub(super) fn accuracy(bench: &Bench) -> Result<String> {
    let mut table = Table::new(["Method", "Mean Relative Error", "Max Relative Error", "MSE"]);
    for (method, claims) in &METHODS {
        let column = bench.column(method.spec, "")?;
        let error = column.error_spread();
        table.row([
            method.name.to_owned(),
            beside(&spread(error), &plain_spread(claims.error), error.0 > claims.error.0),
            error_beside(column.max_error(), claims.max_error),
            error_beside(column.mean_mse(), claims.mse),
        ]);
    }
    let text = "Over the six layers. The MSE is the mean of the layers' MSEs and depends on the \
        scale of the weights: nearly all of it comes from the embedding, whose weights are N(0,1). \
        Only the relative errors can be compared. The seed's mean for BitNet is below the least \
        error of rounding to −1, 0, +1 with the best scale: 1/3 for uniform weights, 0.436 for \
        Gaussian weights.";
    Ok(table.under("Reconstruction Accuracy", text))
}

pub(super) fn speed(bench: &Bench) -> Result<String> {
    let mut table = Table::new(["Method", "Mean Time (seconds per layer)", "Weights per second"]);
    let claimed_speed = |claims: &Claims| format!("{}K", claims.kiloweights_per_second);
    for (method, claims) in &METHODS {
        let column = bench.column(method.spec, "")?;
        let (time, speed) = (column.encode_spread(), column.weights_per_second());
        table.row([
            method.name.to_owned(),
            beside(&spread(time), &plain_spread(claims.seconds), time.0 > claims.seconds.0),
            beside(&thousands(speed), &claimed_speed(claims), speed < 1e3 * claims.kiloweights_per_second),
        ]);
    }
    let text = "Encoding on one thread. Weights per second are the weights of all six layers \
        divided by the sum of their times. SeedLM's search is exact: it finds the best of all \
        65,535 seeds.";
    Ok(table.under("Compression Speed", text))
}

fn spread((mean, deviation): (f64, f64)) -> String {
    format!("{} ± {}", significant(mean), significant(deviation))
}

/// In the seed's notation.
fn plain_spread((mean, deviation): (f64, f64)) -> String {
    format!("{mean} ± {deviation}")
}
