//! `netweight bench`: the matrix.

pub mod interrupt;
pub mod progress;
#[cfg(feature = "runtime")]
pub mod recipes;
mod recorder;
mod reports;
mod shown;
pub mod specs;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use codec_api::Registry;
use harness::matrix::{self, Column, Options, Row, Status, columns_for};
use harness::report::{self, Comparison, RunInfo, Summary};
use harness::suite::{Suite, SuiteOptions};

use crate::Outcome;
use crate::args::{Bench, SortColumn};
use crate::bench::recorder::Recorder;
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
    #[cfg(feature = "runtime")]
    if let Some(model) = &args.language.model {
        return recipes::run(args, model, registry, out);
    }
    if args.codecs.as_ref().is_some_and(|list| list.trim().is_empty()) {
        bail!("--codecs is empty; leave it out to measure every preset");
    }
    let columns = columns_for(registry, &specs::split(args.codecs.as_deref().unwrap_or_default()))
        .map_err(|error| suggest::for_spec(error, registry))?;
    reports::check(args)?;
    let before = args.compare.as_ref().map(report::read_jsonl).transpose()?;
    let suite = suite(args)?;
    reports::check_inputs(args, &suite.files)?;
    check_calibrated(args, &suite)?;

    let info = RunInfo::measure(&suite, COMMIT);
    let (mut rows, mut written) = measure(args, registry, &suite, &columns)?;
    let cells = suite.items.len() * columns.len();
    let mut summaries = report::summarise(&rows);
    let comparison = before.map(|before| report::compare(&before, &rows));
    written = written.and(reports::write_csv(args, &rows));
    if let Some(column) = args.sort {
        sort(column, &mut summaries, &mut rows)?;
    }
    written = written.and(reports::write_markdown(args, &info, &summaries, &rows));

    // The tables are shown even if a file could not be written.
    shown::print(args, &info, &summaries, &rows, columns.len(), out)?;
    written?;
    if rows.len() < cells {
        let resume = if args.json.is_some() { "; the same command with --resume goes on" } else { "" };
        writeln!(out, "interrupted: {} of {cells} cells are measured{resume}", rows.len())?;
        return Ok(Outcome::Interrupted);
    }
    conclude(&rows, comparison, out)
}

/// Prints the comparison, if there is one.
fn conclude(rows: &[Row], comparison: Option<Comparison>, out: &mut dyn Write) -> Result<Outcome> {
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

fn suite(args: &Bench) -> Result<Suite> {
    let options = SuiteOptions {
        seed: args.seed,
        base: args.base.clone(),
        cast: args.cast.map(Into::into),
        include: args.include.clone(),
    };
    let name = args.model.as_deref().map_or_else(|| Ok(args.suite.clone()), of_model)?;
    let suite = Suite::parse(&name, &options).map_err(suggest::for_suite)?;
    if suite.items.is_empty() {
        bail!("suite `{}` has no tensors: there is nothing to measure", text::printable(&suite.name));
    }
    Ok(suite)
}

/// The suite of a model's path.
fn of_model(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("the path `{}` is not UTF-8", path.display()))?;
    if !path.exists() && suggest::is_suite(text) {
        bail!("`{text}` does not exist; did you mean `--suite {text}`?");
    }
    Ok(format!("model:{text}"))
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

/// The rows, and whether they are all: Ctrl-C ends the run early. A report that cannot be written
/// is an error beside the rows.
fn measure(args: &Bench, registry: &Registry, suite: &Suite, columns: &[Column]) -> Result<(Vec<Row>, Result<()>)> {
    let mut options = Options::new(registry).calibrated(args.calibrated).cancel(interrupt::watch());
    if let Some(commit) = COMMIT {
        options = options.commit(commit);
    }
    let (journal, earlier) = reports::journal(args, suite, columns, &options)?;
    let mut recorder = Recorder::new(journal);
    let rows = matrix::run(suite, columns, &options.earlier(&earlier), &mut recorder);
    Ok((rows, recorder.finish().map_err(Into::into)))
}

/// The table of cells lacks some columns of the table of codecs; for these its order stays.
fn sort(column: SortColumn, summaries: &mut Vec<Summary>, rows: &mut Vec<Row>) -> Result<()> {
    report::sort_by_column(summaries, &column.key()).context("--sort")?;
    drop(report::sort_by_column(rows, &column.key()));
    Ok(())
}

#[cfg(test)]
mod tests;
