//! Tables of a suite through several codecs, beside the ratios that a report claims.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::measure::{Bench, Table, ratio_beside, significant};
use crate::tree::Tree;

/// What is stored, the codec, and the claimed ratio.
pub(super) type Row = (&'static str, &'static str, f64);

/// One such table.
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    pub(super) suite: &'static str,
    /// Codec of the tensors that a row's codec refuses; `None` if it shall refuse none.
    pub(super) instead: Option<&'static str>,
    pub(super) rows: &'static [Row],
}

const HOW_TO_READ: &str = "\
A ratio is dense F32 bytes to all section bytes of the payload, then the claim of the seed's report in parentheses; where the measured
value is worse, it says so. Every value comes from weights that were encoded, written as bytes, read back and decoded, and whose error
was checked against the bound that the encoder certified. Where a part has several tensors, ratio and bytes are of all of them together,
and each error is that of the tensor where it is largest. A base is not counted in the bytes of what was made from it; errors are relative
to the result, not to the delta.";

/// Measures all parts; `remark` ends the introduction.
pub(super) fn page(tree: &Tree, parts: &[Part], remark: &str) -> Result<String> {
    let (mut runs, mut tables) = (String::new(), String::new());
    for part in parts {
        let specs: BTreeSet<_> = part.rows.iter().map(|(_, spec, _)| *spec).chain(part.instead).collect();
        let bench = Bench::run(tree, part.suite, specs)?;
        runs += &bench.conditions();
        tables = tables + "\n" + &table(part, &bench)?;
    }
    let runs = format!("The runs of `netweight bench` behind it:\n\n{runs}");
    Ok(format!("{runs}\n## How to read this\n\n{HOW_TO_READ} {remark}\n{tables}"))
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
