//! `netweight bench`: the matrix.

pub mod progress;
mod reports;
mod specs;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use codec_api::Registry;
use harness::matrix::{self, Column, Options, Row, Status, columns_for};
use harness::report::{self, Layout, RunInfo, Summary};
use harness::suite::{Suite, SuiteOptions};

use crate::Outcome;
use crate::args::{Bench, SortColumn};
use crate::{suggest, text};

/// The commit of the program.
const COMMIT: Option<&str> = option_env!("NETWEIGHT_COMMIT");

/// Measures, writes the reports, prints the tables.
///
/// All checks of the arguments come before the measurement.
///
/// # Errors
/// For wrong arguments, an unreadable model or earlier report, or a report that cannot be written.
pub fn run(args: &Bench, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    if args.codecs.as_ref().is_some_and(|list| list.trim().is_empty()) {
        bail!("--codecs is empty; leave it out to measure every preset");
    }
    let columns = columns_for(registry, &specs::split(args.codecs.as_deref().unwrap_or_default()))
        .map_err(|error| suggest::for_spec(error, registry))?;
    reports::check(args)?;
    let before = args.compare.as_ref().map(report::read_jsonl).transpose()?;
    let options = SuiteOptions { seed: args.seed, base: args.base.clone(), cast: args.cast.map(Into::into) };
    let name = args.model.as_deref().map_or_else(|| Ok(args.suite.clone()), of_model)?;
    let suite = Suite::parse(&name, &options).map_err(suggest::for_suite)?;
    if suite.items.is_empty() {
        bail!("suite `{}` has no tensors: there is nothing to measure", text::printable(&suite.name));
    }
    check_include(args, &suite)?;
    check_calibrated(args, &suite)?;

    let info = RunInfo::measure(&suite, COMMIT);
    let mut rows = measure(args, registry, &suite, &columns);
    let mut summaries = report::summarise(&rows);
    let comparison = before.map(|before| report::compare(&before, &rows));
    let mut written = reports::write_rows(args, &rows);
    if let Some(column) = args.sort {
        sort(column, &mut summaries, &mut rows)?;
    }
    written = written.and_then(|()| reports::write_markdown(args, &info, &summaries, &rows));

    // The tables are shown even if a file could not be written.
    print(args, &info, &summaries, &rows, columns.len(), out)?;
    written?;
    let failed = rows.iter().any(|row| row.status == Status::Failed);
    let Some(comparison) = comparison else {
        return Ok(if failed { Outcome::Found } else { Outcome::Clean });
    };
    writeln!(out, "\n{comparison}")?;
    if comparison.compared == 0 {
        bail!("no cell of the earlier run is in this one: suite, tensors, codecs, seed and model must be the same");
    }
    Ok(if failed || !comparison.regressions.is_empty() { Outcome::Found } else { Outcome::Clean })
}

/// The suite of a model's path.
fn of_model(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("the path `{}` is not UTF-8", path.display()))?;
    if !path.exists() && suggest::is_suite(text) {
        bail!("`{text}` does not exist; did you mean `--suite {text}`?");
    }
    // A slash at the end would make another suite of the same model.
    let plain: PathBuf = path.components().collect();
    Ok(format!("model:{}", plain.display()))
}

fn check_include(args: &Bench, suite: &Suite) -> Result<()> {
    const NAMED: usize = 5;
    let Some(pattern) = &args.include else { return Ok(()) };
    if suite.items.iter().any(|item| pattern.is_match(&item.name)) {
        return Ok(());
    }
    let mut names: Vec<_> = suite.items.iter().take(NAMED).map(|item| text::printable(&item.name)).collect();
    if suite.items.len() > NAMED {
        names.push("…".to_owned());
    }
    let count = text::count(suite.items.len(), "tensor");
    bail!("`{pattern}` matches none of the suite's {count}: {}", names.join(", "))
}

fn check_calibrated(args: &Bench, suite: &Suite) -> Result<()> {
    if !args.calibrated || suite.items.iter().any(|item| item.calibration.is_some()) {
        return Ok(());
    }
    let file = checkpoint::CALIBRATION;
    // Without any calibration that fits, the first vector that does not says why.
    let misfit = suite.notes.iter().find(|note| note.contains(file)).map(|note| format!("; {}", text::printable(note)));
    let name = text::printable(&suite.name);
    bail!("suite `{name}` has no calibration: --calibrated needs `{file}` beside a model{}", misfit.unwrap_or_default())
}

fn measure(args: &Bench, registry: &Registry, suite: &Suite, columns: &[Column]) -> Vec<Row> {
    let mut options = Options::new(registry).calibrated(args.calibrated);
    if let Some(pattern) = &args.include {
        options = options.include(pattern.clone());
    }
    if let Some(commit) = COMMIT {
        options = options.commit(commit);
    }
    matrix::run(suite, columns, &options, &mut progress::Progress::new())
}

/// The table of cells lacks some columns of the table of codecs; for these its order stays.
fn sort(column: SortColumn, summaries: &mut Vec<Summary>, rows: &mut Vec<Row>) -> Result<()> {
    report::sort_by_column(summaries, &column.key()).context("--sort")?;
    drop(report::sort_by_column(rows, &column.key()));
    Ok(())
}

fn print(
    args: &Bench,
    info: &RunInfo,
    summaries: &[Summary],
    rows: &[Row],
    codecs: usize,
    out: &mut dyn Write,
) -> Result<()> {
    let (tensors, weights) = extent(rows, codecs);
    writeln!(out, "{}, {weights} weights, {}", text::count(tensors, "tensor"), text::count(codecs, "codec"))?;
    let width = if args.wide { None } else { text::width() };
    let layout = if args.wide { Layout::Wide } else { Layout::Narrow(width) };
    report::write_summary_table(out, info, summaries, layout)?;
    if args.long {
        writeln!(out)?;
        report::write_cell_table(out, rows, layout)?;
        if !args.wide {
            print_unsupported(rows, width, out)?;
        }
    }
    for row in rows.iter().filter(|row| row.status == Status::Failed) {
        let (tensor, reason) = (text::printable(&row.tensor), row.reason.as_deref().unwrap_or("no reason given"));
        let line = format!("failed: {tensor}, {}: {}", row.codec, text::printable(reason));
        writeln!(out, "{}", text::wrap(&line, " ", width.unwrap_or(usize::MAX)))?;
    }
    Ok(())
}

/// A line for every codec and reason; the narrow table of cells has no room for them.
fn print_unsupported(rows: &[Row], width: Option<usize>, out: &mut dyn Write) -> Result<()> {
    let mut refusals: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.status == Status::Unsupported) {
        *refusals.entry((&row.codec, row.reason.as_deref().unwrap_or("no reason given"))).or_default() += 1;
    }
    for ((codec, reason), tensors) in refusals {
        let line = format!("unsupported: {}, {codec}: {}", text::count(tensors, "tensor"), text::printable(reason));
        writeln!(out, "{}", text::wrap(&line, " ", width.unwrap_or(usize::MAX)))?;
    }
    Ok(())
}

/// The numbers of tensors and weights: every codec has a row for each tensor.
fn extent(rows: &[Row], codecs: usize) -> (usize, u64) {
    let codecs = codecs.max(1);
    (rows.len() / codecs, rows.iter().map(|row| row.weights).sum::<u64>() / codecs as u64)
}

#[cfg(test)]
mod tests;
