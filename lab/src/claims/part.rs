//! Tables of a suite through several codecs, with the ratios that a report claims.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::lab::Lab;
use crate::measure::{Bench, Table, paragraph, ratio_beside, significant};

/// What is stored, the codec, and the claimed ratio.
pub(super) type Row = (&'static str, &'static str, f64);

/// One such table.
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    pub(super) suite: &'static str,
    /// Codec of the tensors that a row's codec refuses; `None` if no codec may refuse a tensor.
    pub(super) instead: Option<&'static str>,
    pub(super) rows: &'static [Row],
}

const HOW_TO_READ: &str = "\
A ratio is dense F32 bytes divided by the bytes of all sections of the payload. The claim of the
seed's report follows in parentheses; a measured value that is worse than the claim is marked.
Every value comes from weights that were encoded, written as bytes, read back and decoded; the
error that the file certifies was measured again. For parts with several tensors,
ratio and bytes are those of all tensors together, and each error is that of the tensor with the
largest one. The bytes of a tensor stored relative to a base do not include the base; errors are
relative to the result, not to the delta.";

/// Measures all parts; `remark` ends the introduction.
pub(super) fn page(lab: &Lab, parts: &[Part], remark: &str) -> Result<String> {
    let (mut runs, mut tables) = (String::new(), String::new());
    for part in parts {
        let specs: BTreeSet<_> = part.rows.iter().map(|(_, spec, _)| *spec).chain(part.instead).collect();
        let bench = Bench::run(lab, part.suite, specs)?;
        runs += &bench.conditions();
        tables = tables + "\n" + &table(part, &bench)?;
    }
    let introduction = paragraph(&format!("{HOW_TO_READ} {remark}"));
    Ok(format!("Measured on:\n\n{runs}\n## How to read this\n\n{introduction}{tables}"))
}

fn table(part: &Part, bench: &Bench) -> Result<String> {
    let mut table = Table::new(["What", "Codec", "Ratio", "Relative error", "MSE", "Largest error", "Bytes"]);
    for &(what, spec, claim) in part.rows {
        let column = bench.suite_column(spec, part.instead)?;
        table.row([
            what.to_owned(),
            format!("`{spec}`"),
            ratio_beside(column.ratio(), claim),
            significant(column.max_error()),
            significant(column.max_mse()),
            significant(column.max_abs_error()),
            column.bytes().to_string(),
        ]);
    }
    Ok(table.under(part.title, part.text))
}
