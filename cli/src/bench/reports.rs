//! The report files.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use harness::matrix::Row;
use harness::report::{self, RunInfo, Summary};

use crate::args::Bench;

/// Refuses report files that exist already (without `--force`), that are named twice, or that
/// cannot be written.
///
/// # Errors
/// Names the file and the remedy.
pub fn check(args: &Bench) -> Result<()> {
    let mut seen = vec![args.compare.as_ref().and_then(|path| path.canonicalize().ok())];
    for path in [&args.json, &args.csv, &args.md].into_iter().flatten() {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(
            directory.is_dir(),
            "cannot write `{}`: there is no directory `{}`",
            path.display(),
            directory.display()
        );
        report::check_file(path)?;
        let place = path.file_name().map(|name| directory.canonicalize().map(|d| d.join(name))).transpose()?;
        ensure!(!seen.contains(&place), "`{}` is named twice; every report needs its own file", path.display());
        seen.push(place);
        if path.exists() && !args.force {
            bail!("`{}` exists already; --force overwrites it", path.display());
        }
    }
    Ok(())
}

/// Writes the JSON and CSV files, in the order of the matrix.
///
/// # Errors
/// The system's error, with the file.
pub fn write_rows(args: &Bench, rows: &[Row]) -> Result<()> {
    if let Some(path) = &args.json {
        report::write_file(path, |out| report::write_jsonl(out, rows))?;
    }
    if let Some(path) = &args.csv {
        report::write_file(path, |out| report::write_csv(out, rows))?;
    }
    Ok(())
}

/// Writes the Markdown file, in the order of the tables.
///
/// # Errors
/// As [`write_rows`].
pub fn write_markdown(args: &Bench, info: &RunInfo, summaries: &[Summary], rows: &[Row]) -> Result<()> {
    if let Some(path) = &args.md {
        report::write_file(path, |out| report::write_markdown(out, info, summaries, rows))?;
    }
    Ok(())
}
