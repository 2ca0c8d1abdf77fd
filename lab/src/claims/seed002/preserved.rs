//! The last table: what each method preserves.

use anyhow::Result;
use checkpoint::Recipe;
use runtime::Protocol;

use super::{ABSMEAN, FOUR_BIT, LEAST_SQUARES, LEGACY, Method, THREE_BIT, VECTORS_FOUR_BIT, VECTORS_TWO_BIT, code};
use crate::claims::language::{COUNT, Language, MODEL};
use crate::lab::Lab;
use crate::measure::{Table, beside, significant};

/// Methods with the ratio and the preserved accuracy that the report claims, in percent.
const METHODS: [(Method, [f64; 2], [f64; 2]); 7] = [
    (FOUR_BIT, [4.0, 6.0], [85.0, 95.0]),
    (THREE_BIT, [4.0, 6.0], [85.0, 95.0]),
    (LEGACY, [4.0, 6.0], [85.0, 95.0]),
    (ABSMEAN, [8.0, 8.0], [90.0, 98.0]),
    (LEAST_SQUARES, [8.0, 8.0], [90.0, 98.0]),
    (VECTORS_FOUR_BIT, [6.0, 6.0], [88.0, 96.0]),
    (VECTORS_TWO_BIT, [6.0, 6.0], [88.0, 96.0]),
];

/// Packs a language model with every method.
///
/// # Errors
/// If the model cannot be read, packed or run.
pub(super) fn section(lab: &Lab) -> Result<String> {
    let model = Language::open(lab)?;
    let stories = model.stories()?;
    let dense = model.dense(&stories, Protocol::default())?;
    let mut table = Table::new(["Method", "Codec", "Ratio", "Same most likely token", "KL divergence", "Perplexity"]);
    for (Method { name, spec, .. }, ratios, accuracies) in METHODS {
        eprintln!("running a model packed with {spec}");
        let found = model.packed(&Recipe::for_matrices(spec), &stories, Protocol::default())?;
        let (divergence, same) = found.divergence();
        table.row([
            name.to_owned(),
            code(spec),
            beside(&format!("{:.2}x", found.ratio), &range(ratios, "x"), found.ratio + 0.005 < ratios[0]),
            beside(&format!("{:.1} %", 100.0 * same), &range(accuracies, " %"), 100.0 * same < accuracies[0]),
            significant(divergence),
            significant(found.evaluation.perplexity()),
        ]);
    }
    let text = format!(
        "\
The report claims which accuracy each method preserves, without saying of what. Here all matrices of `{MODEL}`, \
         embedding included, are packed with the method, without training and without calibration, and the model \
         predicts the first {COUNT} stories of `assets/tinystories` ({} tokens). The dense model has a perplexity of \
         {}. The share of tokens for which both models have the same most likely one stands beside the claimed \
         accuracy; KL divergence is in nats per token. A small model suffers more than a large one, and BitNet is \
         meant for models that are trained with it. GPTQ and AWQ, which the report lists too, are no codecs but \
         ways to choose the codes with calibration.",
        dense.tokens,
        significant(dense.perplexity()),
    );
    Ok(table.under("Compression Ratio vs Accuracy", &text))
}

fn range([low, high]: [f64; 2], unit: &str) -> String {
    if low == high { format!("{low}{unit}") } else { format!("{low}–{high}{unit}") }
}
