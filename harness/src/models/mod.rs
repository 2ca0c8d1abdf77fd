//! The model level of the matrix: a language model packed by several recipes, each compared with
//! the dense model on a text.
//!
//! This module has the figures and their reports; a program with the crate `runtime` measures them.

mod chart;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use chart::{Mark, picture, svg};

use crate::report::Layout;
use crate::report::grid::{Column, Grid, digits, fixed, percent, significant};
use crate::text::Align::{Left, Right};
use crate::text::{printable, wrap};

/// The recipe of the line of the model that is not packed.
pub const DENSE: &str = "dense";

/// The figures of a model packed by a recipe. Serialised, they are a line of the JSON Lines report:
/// one object that always has all of these keys in this order. Unknown values are null.
///
/// | key | type | meaning |
/// |---|---|---|
/// | `model`, `text` | string | paths as they were given |
/// | `recipe` | string | the recipe as it was given; `dense` for the dense model |
/// | `context`, `stride` | integer | tokens of a window, and from one window to the next |
/// | `tokens` | integer | predicted tokens |
/// | `weights` | integer | elements of all tensors |
/// | `bytes` | integer | bytes of all payloads; of a dense model, of all tensors |
/// | `file_bytes` | integer | bytes of the files |
/// | `bits_per_weight` | number | `8·bytes/weights` |
/// | `relative_error` | number? | ‖w − ŵ‖/‖w‖ over all weights |
/// | `nll` | number | negative log-likelihood of the tokens in nats, summed |
/// | `perplexity` | number | e to the power of `nll/tokens` |
/// | `bits_per_byte` | number? | bits for each byte of text |
/// | `perplexity_change` | number? | perplexity less that of the dense model |
/// | `perplexity_change_error` | number? | its standard error |
/// | `kl` | number? | mean KL divergence from the dense model, in nats per token |
/// | `kl_median`, `kl_99`, `kl_999` | number? | its median, 99 % and 99.9 % quantile |
/// | `top1` | number? | share of tokens with the same most likely token |
/// | `tokens_per_s` | number | tokens of the windows that the model ran in a second |
/// | `resident_bytes` | integer | bytes that the weights keep in memory |
/// | `pack_seconds` | number? | time of packing, with the check of the packed file |
/// | `threads` | integer | number of threads |
/// | `seed` | integer | seed of codecs |
/// | `commit` | string? | commit of the program |
/// | `cpu` | string? | CPU model |
/// | `simd` | string | vector instructions of the kernels |
/// | `rustc` | string? | compiler version |
///
/// What compares with the dense model is null in its own line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the table above documents every key")]
pub struct ModelRow {
    pub model: String,
    pub text: String,
    pub recipe: String,
    pub context: usize,
    pub stride: usize,
    pub tokens: u64,
    pub weights: u64,
    pub bytes: u64,
    pub file_bytes: u64,
    pub bits_per_weight: f64,
    pub relative_error: Option<f64>,
    pub nll: f64,
    pub perplexity: f64,
    pub bits_per_byte: Option<f64>,
    pub perplexity_change: Option<f64>,
    pub perplexity_change_error: Option<f64>,
    pub kl: Option<f64>,
    pub kl_median: Option<f64>,
    pub kl_99: Option<f64>,
    pub kl_999: Option<f64>,
    pub top1: Option<f64>,
    pub tokens_per_s: f64,
    pub resident_bytes: u64,
    pub pack_seconds: Option<f64>,
    pub threads: usize,
    pub seed: u64,
    pub commit: Option<String>,
    pub cpu: Option<String>,
    pub simd: String,
    pub rustc: Option<String>,
}

/// The columns that fit a terminal of 80 columns.
const SHORT: [Column<ModelRow>; 8] = [
    ("recipe", Left, |r| r.recipe.clone()),
    ("bits/w", Right, |r| digits(Some(r.bits_per_weight), 4)),
    ("ppl", Right, |r| digits(Some(r.perplexity), 4)),
    ("Δppl", Right, change),
    ("KL", Right, |r| significant(r.kl, 3)),
    ("top-1", Right, |r| share(r.top1)),
    ("tokens\nper s", Right, |r| digits(Some(r.tokens_per_s), 3)),
    ("resident\nMB", Right, |r| megabytes(r.resident_bytes)),
];

const ALL: [Column<ModelRow>; 14] = [
    ("recipe", Left, |r| r.recipe.clone()),
    ("bits/w", Right, |r| fixed(Some(r.bits_per_weight), 3)),
    ("file MB", Right, |r| megabytes(r.file_bytes)),
    ("rel. error", Right, |r| significant(r.relative_error, 3)),
    ("ppl", Right, |r| fixed(Some(r.perplexity), 4)),
    ("Δppl", Right, change),
    ("KL mean", Right, |r| significant(r.kl, 4)),
    ("median", Right, |r| significant(r.kl_median, 3)),
    ("99 %", Right, |r| significant(r.kl_99, 3)),
    ("99.9 %", Right, |r| significant(r.kl_999, 3)),
    ("top-1", Right, |r| share(r.top1)),
    ("tokens/s", Right, |r| digits(Some(r.tokens_per_s), 3)),
    ("resident MB", Right, |r| megabytes(r.resident_bytes)),
    ("pack s", Right, |r| fixed(r.pack_seconds, 2)),
];

/// The change of perplexity and its standard error, with two digits of the error.
fn change(row: &ModelRow) -> String {
    match (row.perplexity_change, row.perplexity_change_error) {
        (Some(change), Some(error)) => {
            let places = if error > 0.0 { (1 - error.log10().floor() as i32).clamp(0, 6) as usize } else { 4 };
            format!("{change:+.places$} ± {error:.places$}")
        }
        _ => fixed(None, 0),
    }
}

fn share(part: Option<f64>) -> String {
    part.map_or_else(|| fixed(None, 0), percent)
}

fn megabytes(bytes: u64) -> String {
    digits(Some(bytes as f64 / 1e6), 3)
}

/// The line above the table: what all rows have in common.
fn head(rows: &[ModelRow]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let ModelRow { model, text, tokens, context, stride, weights, threads, seed, simd, .. } = first;
    printable(&format!(
        "model {model}, {weights} weights, text {text}, {tokens} tokens predicted, windows of {context}, \
         stride {stride}, seed {seed}, commit {}, cpu {}, simd {simd}, threads {threads}, rustc {}",
        known(&first.commit),
        known(&first.cpu),
        known(&first.rustc),
    ))
}

/// Writes the line of the run and the table for a terminal.
///
/// # Errors
/// The error of `out`.
pub fn write_table(out: &mut dyn Write, rows: &[ModelRow], layout: Layout) -> io::Result<()> {
    let (grid, width) = match layout {
        Layout::Wide => (Grid::new(&ALL, rows), None),
        Layout::Narrow(width) => (Grid::new(&SHORT, rows), width),
    };
    writeln!(out, "{}", wrap(&head(rows), ", ", width.unwrap_or(usize::MAX)))?;
    writeln!(out, "{}", grid.terminal(width))
}

/// Writes the line of the run and the table with every column as Markdown.
///
/// # Errors
/// The error of `out`.
pub fn write_markdown(out: &mut dyn Write, rows: &[ModelRow]) -> io::Result<()> {
    writeln!(out, "{}\n\n{}", head(rows), Grid::new(&ALL, rows).markdown())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row with these figures.
    pub(crate) fn row(recipe: &str, bits: f64, kl: Option<f64>) -> ModelRow {
        ModelRow {
            model: "m".to_owned(),
            text: "t.txt".to_owned(),
            recipe: recipe.to_owned(),
            context: 512,
            stride: 256,
            tokens: 1000,
            weights: 4_000_000,
            bytes: (bits * 500_000.0) as u64,
            file_bytes: (bits * 500_000.0) as u64 + 1000,
            bits_per_weight: bits,
            relative_error: kl.map(|_| 0.0123),
            nll: 2000.0,
            perplexity: 7.389_056,
            bits_per_byte: None,
            perplexity_change: kl.map(|_| 0.012_345),
            perplexity_change_error: kl.map(|_| 0.001_5),
            kl,
            kl_median: kl,
            kl_99: kl,
            kl_999: kl,
            top1: kl.map(|_| 0.9876),
            tokens_per_s: 1234.5,
            resident_bytes: 1_500_000,
            pack_seconds: kl.map(|_| 0.5),
            threads: 2,
            seed: 0,
            commit: None,
            cpu: Some("a | b".to_owned()),
            simd: "avx2".to_owned(),
            rustc: None,
        }
    }

    #[test]
    fn tables_have_a_line_for_each_recipe() {
        let rows = [row(DENSE, 32.0, None), row("q4", 4.156, Some(0.012_34))];
        let mut narrow = Vec::new();
        write_table(&mut narrow, &rows, Layout::Narrow(Some(80))).unwrap();
        let narrow = String::from_utf8(narrow).unwrap();
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        let lines: Vec<Vec<&str>> = narrow.lines().map(|line| line.split_whitespace().collect()).collect();
        let found = &lines[lines.len() - 2..];
        assert_eq!(found[0], ["dense", "32.00", "7.389", "–", "–", "–", "1234", "1.50"]);
        assert_eq!(found[1], ["q4", "4.156", "7.389", "+0.0123", "±", "0.0015", "0.0123", "98.8", "%", "1234", "1.50"]);
        let mut markdown = Vec::new();
        write_markdown(&mut markdown, &rows).unwrap();
        let markdown = String::from_utf8(markdown).unwrap();
        assert!(markdown.starts_with("model m, 4000000 weights, text t.txt, 1000 tokens predicted"), "{markdown}");
        assert_eq!(markdown.lines().filter(|line| line.starts_with('|')).count(), 4);
        assert!(
            markdown.contains("| q4 | 4.156 | 2.08 | 0.0123 | 7.3891 | +0.0123 ± 0.0015 | 0.01234 |"),
            "{markdown}"
        );
    }

    #[test]
    fn rows_read_back() {
        let row = row("q4", 4.0, Some(0.1));
        let text = serde_json::to_string(&row).unwrap();
        assert!(text.starts_with("{\"model\":\"m\",\"text\":\"t.txt\",\"recipe\":\"q4\","), "{text}");
        assert_eq!(serde_json::from_str::<ModelRow>(&text).unwrap(), row);
    }
}
