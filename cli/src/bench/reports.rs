//! The report files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use checkpoint::FileIdentity;
use harness::matrix::{Column, Earlier, Options, Row};
use harness::report::{self, Journal, RunInfo, Summary};
use harness::suite::Suite;

use crate::args::Bench;

/// Refuses report files that exist already (without `--force`), that are named twice, or that
/// cannot be written.
///
/// # Errors
/// Names the file and the remedy.
pub fn check(args: &Bench) -> Result<()> {
    let mut seen = inputs(args.compare.iter().chain(&args.model).chain(&args.base));
    for path in outputs(args) {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(
            directory.is_dir(),
            "cannot write `{}`: there is no directory `{}`",
            path.display(),
            directory.display()
        );
        report::check_file(path)?;
        let file = FileIdentity::of(path).with_context(|| format!("cannot write `{}`", path.display()))?;
        check_apart(path, &file, &seen)?;
        seen.push(file);
        let goes_on = args.resume && args.json.as_ref() == Some(path);
        if path.exists() && !args.force && !goes_on {
            bail!("`{}` exists already; --force overwrites it", path.display());
        }
    }
    Ok(())
}

/// Refuses report files that are among the files that are read.
///
/// # Errors
/// Names the file.
pub fn check_inputs(args: &Bench, files: &[PathBuf]) -> Result<()> {
    let seen = inputs(files.iter());
    outputs(args).try_for_each(|path| check_apart(path, &FileIdentity::of(path)?, &seen))
}

fn outputs(args: &Bench) -> impl Iterator<Item = &PathBuf> {
    let reports = [&args.json, &args.csv, &args.md].into_iter();
    #[cfg(feature = "runtime")]
    let reports = reports.chain([&args.language.svg]);
    reports.flatten()
}

/// The files behind these paths; a file that is absent has an error of its own when it is read.
fn inputs<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Vec<FileIdentity> {
    paths.filter_map(|path| FileIdentity::of(path).ok()).collect()
}

fn check_apart(path: &Path, file: &FileIdentity, seen: &[FileIdentity]) -> Result<()> {
    ensure!(!seen.contains(file), "`{}` is named twice; every report needs its own file", path.display());
    Ok(())
}

/// The JSON report, and its cells if the run goes on with it.
///
/// # Errors
/// If the report cannot be read, or belongs to another run.
pub fn journal(
    args: &Bench,
    suite: &Suite,
    columns: &[Column],
    options: &Options<'_>,
) -> Result<(Option<Journal>, Earlier)> {
    let Some(path) = &args.json else { return Ok((None, Earlier::default())) };
    if !(args.resume && path.exists()) {
        return Ok((Some(Journal::create(path)?), Earlier::default()));
    }
    let (journal, earlier) = Journal::resume(path, |rows| -> Result<_> {
        Earlier::new(rows, suite, columns, options)
            .with_context(|| format!("`{}` is the report of another run; name another file", path.display()))
    })?;
    Ok((Some(journal), earlier))
}

/// Writes the CSV file, in the order of the matrix.
///
/// # Errors
/// The system's error, with the file.
pub fn write_csv(args: &Bench, rows: &[Row]) -> Result<()> {
    if let Some(path) = &args.csv {
        report::write_file(path, |out| report::write_csv(out, rows))?;
    }
    Ok(())
}

/// Writes the Markdown file, in the order of the tables.
///
/// # Errors
/// As [`write_csv`].
pub fn write_markdown(args: &Bench, info: &RunInfo, summaries: &[Summary], rows: &[Row]) -> Result<()> {
    if let Some(path) = &args.md {
        report::write_file(path, |out| report::write_markdown(out, info, summaries, rows))?;
    }
    Ok(())
}
