//! The rows about perplexity.

use anyhow::Result;
use checkpoint::Recipe;
use runtime::Protocol;

use crate::claims::language::{COUNT, Language, MODEL};
use crate::lab::Lab;
use crate::measure::{Table, beside, ratio, ratio_beside, significant};

/// The texts of the report, at most [`TOKENS`] of each.
const SENTENCES: [&str; 3] = [
    "The quick brown fox jumps over the lazy dog.",
    "Machine learning is a subset of artificial intelligence.",
    "Python is a popular programming language for data science.",
];
const TOKENS: usize = 128;
/// The perplexity of GPT-2 in the report.
const CLAIM: f64 = 37.96;

/// Preset of the report, codec here, claimed ratio and change of the perplexity in percent.
const PRESETS: [(&str, &str, f64, f64); 3] = [
    ("fp16", "quant.cast:to=f16", 1.0, 0.0),
    ("bnb_int8", "quant.int:bits=8", 2.0, 0.3),
    ("bnb_nf4", "quant.nf4:preset=double-quant", 7.5, 1.0),
];

/// Measures perplexity, dense and packed.
///
/// # Errors
/// If the model cannot be read, packed or run.
pub(super) fn section(lab: &Lab) -> Result<String> {
    let model = Language::open(lab)?;
    let sentences = SENTENCES.iter().map(|text| model.text(text)).collect::<Result<Vec<_>>>()?;
    let (stories, short) = (model.stories()?, Protocol { context: Some(TOKENS), ..Protocol::default() });
    let whole = Protocol::default();
    let [few, many] = [model.dense(&sentences, short)?, model.dense(&stories, whole)?];
    let mut table =
        Table::new(["Preset of the report", "Codec here", "Ratio", "Perplexity, sentences", "Stories", "Change"]);
    table.row([
        "none".to_owned(),
        "none: F32".to_owned(),
        ratio(1.0),
        format!("{} (GPT-2 in the report: {CLAIM})", significant(few.perplexity())),
        format!("{:.4}", many.perplexity()),
        "–".to_owned(),
    ]);
    for (name, spec, claimed, percent) in PRESETS {
        let recipe = Recipe::for_matrices(spec);
        let [few, many] = [model.packed(&recipe, &sentences, short)?, model.packed(&recipe, &stories, whole)?];
        let (change, error) = many.change();
        table.row([
            name.to_owned(),
            format!("`{spec}`"),
            ratio_beside(many.ratio, claimed),
            significant(few.evaluation.perplexity()),
            format!("{:.4}", many.evaluation.perplexity()),
            beside(&format!("{change:+.2} % ± {error:.2} %"), &format!("{percent} %"), change - error > percent),
        ]);
    }
    let text = format!(
        "\
The report measures the perplexity of GPT-2 on three sentences, which is not at hand here, and states that of its \
         presets: their sizes were formulas, and no model was quantised. Here `{MODEL}`, a Llama of 260,032 weights \
         in F32, predicts the same sentences ({} tokens; it knows stories for children and no such sentences), and \
         the first {COUNT} stories of `assets/tinystories` ({} tokens), in windows of its context. The presets of \
         GPTQ and AWQ, which need calibration, are in the next table. A ratio is that of F32 bytes; the report does not \
         say whether its 2.00x for 8 bits is that of F16. ± is one standard error of the change; a change is worse \
         than the claim if it is by more than this error.",
        few.tokens, many.tokens,
    );
    Ok(table.under("Perplexity", &text))
}
