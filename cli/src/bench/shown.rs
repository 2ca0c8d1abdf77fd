//! What `bench` prints.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use harness::matrix::{Row, Status};
use harness::report::{self, Layout, RunInfo, Summary};

use crate::args::Bench;
use crate::text;

/// Prints the tables, the refusals and the failures.
///
/// # Errors
/// The error of `out`.
pub fn print(
    args: &Bench,
    info: &RunInfo,
    summaries: &[Summary],
    rows: &[Row],
    codecs: usize,
    out: &mut dyn Write,
) -> Result<()> {
    let (tensors, weights) = extent(rows);
    writeln!(out, "{}, {weights} weights, {}", text::count(tensors, "tensor"), text::count(codecs, "codec"))?;
    let width = if args.wide { None } else { text::width() };
    let layout = if args.wide { Layout::Wide } else { Layout::Narrow(width) };
    report::write_summary_table(out, info, summaries, layout)?;
    if args.long {
        writeln!(out)?;
        report::write_cell_table(out, rows, layout)?;
    }
    let line = |text: &str| text::wrap(text, " ", width.unwrap_or(usize::MAX));
    for refusal in refusals(rows) {
        writeln!(out, "{}", line(&refusal))?;
    }
    for row in rows.iter().filter(|row| row.status == Status::Failed) {
        let (tensor, reason) = (text::printable(&row.tensor), text::printable(reason(row)));
        writeln!(out, "{}", line(&format!("failed: {tensor}, {}: {reason}", row.codec)))?;
    }
    Ok(())
}

fn reason(row: &Row) -> &str {
    row.reason.as_deref().unwrap_or("no reason given")
}

/// A line for every codec that refused tensors, with its most frequent reasons.
fn refusals(rows: &[Row]) -> Vec<String> {
    const REASONS: usize = 3;
    let mut codecs: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.status == Status::Unsupported) {
        *codecs.entry(&row.codec).or_default().entry(reason(row)).or_default() += 1;
    }
    let line = |(codec, reasons): (&str, BTreeMap<&str, usize>)| {
        let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, tensors)| std::cmp::Reverse(*tensors));
        let others: usize = reasons.iter().skip(REASONS).map(|(_, tensors)| tensors).sum();
        reasons.truncate(REASONS);
        let mut parts: Vec<String> = reasons
            .into_iter()
            .map(|(reason, tensors)| format!("{}: {}", text::count(tensors, "tensor"), text::printable(reason)))
            .collect();
        parts.extend((others > 0).then(|| format!("{} for other reasons", text::count(others, "tensor"))));
        format!("unsupported: {codec}: {}", parts.join("; "))
    };
    codecs.into_iter().map(line).collect()
}

/// The numbers of tensors and of weights; the rows of a tensor follow each other.
fn extent(rows: &[Row]) -> (usize, u64) {
    let mut tensors: Vec<(&str, u64)> = rows.iter().map(|row| (row.tensor.as_str(), row.weights)).collect();
    tensors.dedup();
    (tensors.len(), tensors.iter().map(|(_, weights)| weights).sum())
}
