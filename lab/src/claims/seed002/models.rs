//! The table of whole models.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{ABSMEAN, BITNET_RATIO, FOUR_BIT, LEGACY, Method};
use crate::measure::{Bench, Table, beside, ratio, ratio_beside, significant};

pub(super) const SUITE: &str = "seed002/models";

/// The seed's claims about a method on a model.
#[derive(Clone, Copy)]
struct Claim {
    ratio: f64,
    seconds: f64,
    /// Fraction of the layers.
    success: f64,
}

struct Model {
    name: &'static str,
    /// Prefix of its tensors' names.
    prefix: &'static str,
    /// The seed's count.
    weights: &'static str,
    seedlm: Option<Claim>,
    bitnet: Option<Claim>,
}

const MODELS: [Model; 5] = [
    Model {
        name: "MLP",
        prefix: "mlp.",
        weights: "535K",
        seedlm: Some(Claim { ratio: 4.1, seconds: 45.2, success: 1.0 }),
        bitnet: Some(Claim { ratio: BITNET_RATIO, seconds: 2.1, success: 1.0 }),
    },
    Model {
        name: "CNN",
        prefix: "cnn.",
        weights: "1.2M",
        seedlm: Some(Claim { ratio: 4.3, seconds: 98.7, success: 0.95 }),
        bitnet: Some(Claim { ratio: BITNET_RATIO, seconds: 4.8, success: 1.0 }),
    },
    Model { name: "Transformer Block", prefix: "transformer.", weights: "525K", seedlm: None, bitnet: None },
    Model { name: "LSTM", prefix: "lstm.", weights: "8.4M", seedlm: None, bitnet: None },
    Model { name: "Large Linear Layer", prefix: "linear.", weights: "8.4M", seedlm: None, bitnet: None },
];

/// The claims of a model that a method is compared with.
type ClaimOf = fn(&Model) -> Option<Claim>;

const METHODS: [(Method, ClaimOf); 3] =
    [(FOUR_BIT, |model| model.seedlm), (LEGACY, |model| model.seedlm), (ABSMEAN, |model| model.bitnet)];

pub(super) fn specs() -> BTreeSet<&'static str> {
    METHODS.iter().map(|(method, _)| method.spec).collect()
}

pub(super) fn full_models(bench: &Bench) -> Result<String> {
    let mut table =
        Table::new(["Model", "Method", "Total Params", "Compression Time (seconds)", "Ratio", "Success Rate"]);
    for model in &MODELS {
        for (method, claim) in METHODS {
            table.row(row(bench, model, method, claim(model))?);
        }
    }
    let text = "A model's time is the sum of its tensors' times on one thread. Its ratio is that \
        of all its tensors together, including biases and norms. A tensor succeeds if it is \
        encoded, read back and decoded, and its certificate holds. Params are those of the layers that \
        the seed names: only the last model has as many as the seed states, and the CNN has \
        fourteen times as many. The seed has no results for the last three models. Both SeedLM \
        rows show its claims for Legacy.";
    Ok(table.under("Full Model Compression", text))
}

fn row(bench: &Bench, model: &Model, method: Method, claim: Option<Claim>) -> Result<[String; 6]> {
    let column = bench.column(method.spec, model.prefix)?;
    let (seconds, success) = (column.encode_seconds(), column.success());
    let of_claim = claim.map(|claim| {
        [
            beside(&significant(seconds), &claim.seconds.to_string(), seconds > claim.seconds),
            ratio_beside(column.ratio(), claim.ratio),
            beside(&percent(success), &percent(claim.success), success < claim.success),
        ]
    });
    let [seconds, ratio, success] =
        of_claim.unwrap_or_else(|| [significant(seconds), ratio(column.ratio()), percent(success)]);
    let weights = beside(&column.weights().to_string(), model.weights, false);
    Ok([model.name.to_owned(), method.name.to_owned(), weights, seconds, ratio, success])
}

fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}
