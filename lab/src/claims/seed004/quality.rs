//! What 8 bits, and layers kept in F32, do to a trained model.

use anyhow::{Context, Result};
use checkpoint::{Recipe, Rule};
use runtime::Protocol;

use crate::claims::language::{COUNT, Language, MODEL};
use crate::lab::Lab;
use crate::measure::{Table, significant};

/// The layers of the model that correspond to those that the report keeps in F32.
const KEPT: &str = r"layers\.0\.(self_attn\.o_proj|mlp\.down_proj)";

/// Packs the model in 8 bits, and with the first layers exact.
///
/// # Errors
/// If the model cannot be read, packed or run.
pub(super) fn section(lab: &Lab) -> Result<String> {
    let model = Language::open(lab)?;
    let stories = model.stories()?;
    let all = Recipe::built_in("int8").context("the recipe int8")?;
    let mut kept = all.clone();
    kept.rules.insert(0, Rule::of_names(KEPT, "lossless"));
    let mut table = Table::new(["Form", "Ratio", "Change of perplexity", "KL divergence", "Same most likely token"]);
    for (name, recipe) in [("int8", &all), ("int8, two layers exact", &kept)] {
        let found = model.packed(recipe, &stories, Protocol::default())?;
        let ((change, error), (divergence, same)) = (found.change(), found.divergence());
        table.row([
            name.to_owned(),
            format!("{:.2}x", found.ratio),
            format!("{change:+.3} % ± {error:.3} %"),
            significant(divergence),
            format!("{:.2} %", 100.0 * same),
        ]);
    }
    let text = format!(
        "\
The report calls the quality perfect after a look at one sample of each model, and keeps `h.0.attn.c_proj` and \
         `h.0.mlp.c_proj` in F32. Random weights have no quality: here `{MODEL}`, a Llama of 260,032 weights, predicts \
         the first {COUNT} stories of `assets/tinystories`, with all matrices in 8 bits, and with the corresponding \
         two, `o_proj` and `down_proj` of the first layer, exact. ± is one standard error.",
    );
    Ok(table.under("Quality", &text))
}
