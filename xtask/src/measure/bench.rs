//! A run of `netweight bench` and its cells.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::column::{Column, Measured};
use crate::tree::Tree;

/// The cells of a finished run.
#[derive(Debug)]
pub struct Bench {
    suite: String,
    /// Codec specs as they were given: the order of each tensor's cells.
    specs: Vec<String>,
    /// Tensor by tensor.
    rows: Vec<Row>,
    /// Machine, compiler, memcpy and load.
    machine: String,
}

/// A line of the JSON Lines report.
#[derive(Debug)]
struct Row {
    name: Name,
    /// Only of a cell that is `ok`.
    measured: Option<Measured>,
}

#[derive(Debug, Deserialize)]
struct Name {
    tensor: String,
    shape: Vec<usize>,
    codec: String,
    status: String,
}

/// A tensor of a suite through one codec.
#[derive(Debug)]
pub struct Cell<'a> {
    pub tensor: &'a str,
    pub shape: &'a [usize],
    /// `None` if the codec does not take the tensor.
    pub measured: Option<&'a Measured>,
}

impl Bench {
    /// Measures these codecs on a suite.
    ///
    /// # Errors
    /// If the program cannot be built or refuses its arguments.
    pub fn run(tree: &Tree, suite: &str, specs: BTreeSet<&str>) -> Result<Self> {
        eprintln!("measuring {suite}");
        let directory = tempfile::tempdir()?;
        let json = directory.path().join("rows.jsonl");
        let specs: Vec<_> = specs.into_iter().map(str::to_owned).collect();
        let mut command = tree.cargo("run");
        command.args(["--release", "--package", "netweight-cli", "--", "bench", "--suite", suite]);
        command.args(["--codecs", &specs.join(","), "--json"]).arg(&json);
        let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
        // 1: it ran to its end, and some cells failed; they are missing in the tables or end them.
        ensure!(matches!(output.status.code(), Some(0 | 1)), "`netweight bench --suite {suite}` failed");
        let rows = fs::read_to_string(&json).with_context(|| format!("cannot build or run `bench --suite {suite}`"))?;
        // As it is called in the tree, wherever that is.
        let suite = suite.replace(&tree.path("").display().to_string(), "");
        Self::new(&suite, specs, &rows, &machine(&String::from_utf8_lossy(&output.stdout))?)
    }

    fn new(suite: &str, specs: Vec<String>, rows: &str, machine: &str) -> Result<Self> {
        let rows = rows.lines().map(Row::parse).collect::<Result<Vec<_>>>()?;
        // Each tensor has a cell for each spec, in one order.
        let expected = |i: usize| (&rows[i / specs.len() * specs.len()].name.tensor, &rows[i % specs.len()].name.codec);
        let in_order = rows.iter().enumerate().all(|(i, row)| (&row.name.tensor, &row.name.codec) == expected(i));
        let whole = rows.len().is_multiple_of(specs.len());
        let distinct: BTreeSet<_> = rows.iter().map(|row| &row.name.codec).collect();
        ensure!(
            in_order && whole && distinct.len() == specs.len(),
            "suite {suite}: two codecs are the same, or rows are missing"
        );
        Ok(Self { suite: suite.to_owned(), specs, rows, machine: machine.to_owned() })
    }

    /// What the run has in common, as an item of a list.
    pub fn conditions(&self) -> String {
        format!("- `{}`: {}\n", self.suite, self.machine)
    }

    /// One tensor through one codec.
    ///
    /// # Errors
    /// If the cell is not there or not `ok`.
    pub fn cell(&self, spec: &str, tensor: &str) -> Result<&Measured> {
        let row = self.rows_of(spec)?.find(|row| row.name.tensor == tensor);
        let measured = row.and_then(|row| row.measured.as_ref());
        measured.with_context(|| format!("suite {}: `{spec}` has no result for `{tensor}`", self.suite))
    }

    /// The tensors whose name begins like this, through one codec.
    ///
    /// # Errors
    /// If the codec is not in the run, or none of the cells is `ok`.
    pub fn column(&self, spec: &str, prefix: &str) -> Result<Column<'_>> {
        let rows = self.rows_of(spec)?.filter(|row| row.name.tensor.starts_with(prefix));
        let column: Column<'_> = rows.map(|row| row.measured.as_ref()).collect();
        ensure!(column.success() > 0.0, "suite {}: `{spec}` has no result for `{prefix}…`", self.suite);
        Ok(column)
    }

    /// Every tensor through one codec, or those that it refuses through `instead`.
    ///
    /// # Errors
    /// If a codec is not in the run, or a cell is not `ok`.
    pub fn suite_column(&self, spec: &str, instead: Option<&str>) -> Result<Column<'_>> {
        let cell = |row: &Row| {
            let instead = instead.filter(|_| row.name.status == "unsupported");
            self.cell(instead.unwrap_or(spec), &row.name.tensor).map(Some)
        };
        self.rows_of(spec)?.map(cell).collect()
    }

    /// Each tensor through one codec, in the suite's order.
    ///
    /// # Errors
    /// If the codec is not in the run, or a cell failed.
    pub fn cells<'a>(&'a self, spec: &str) -> Result<Vec<Cell<'a>>> {
        let cell = |row: &'a Row| {
            let Name { tensor, shape, status, .. } = &row.name;
            ensure!(status != "failed", "suite {}: `{spec}` failed on `{tensor}`", self.suite);
            Ok(Cell { tensor, shape, measured: row.measured.as_ref() })
        };
        self.rows_of(spec)?.map(cell).collect()
    }

    /// Every tensor through one codec; `None` if it does not take them all.
    ///
    /// # Errors
    /// As [`Self::cells`].
    pub fn whole(&self, spec: &str) -> Result<Option<Column<'_>>> {
        let column: Column<'_> = self.cells(spec)?.iter().map(|cell| cell.measured).collect();
        Ok(Some(column).filter(|column| column.success() == 1.0))
    }

    fn rows_of(&self, spec: &str) -> Result<impl Iterator<Item = &Row>> {
        // Rows have the codec with all its keys, so the place tells which spec it was.
        let place = self.specs.iter().position(|known| known == spec);
        let place = place.with_context(|| format!("suite {}: `{spec}` was not measured", self.suite))?;
        Ok(self.rows.iter().skip(place).step_by(self.specs.len()))
    }
}

impl Row {
    fn parse(line: &str) -> Result<Self> {
        let name: Name = serde_json::from_str(line)?;
        let measured = (name.status == "ok").then(|| serde_json::from_str(line)).transpose();
        let measured = measured.with_context(|| format!("the row of {} and {}", name.tensor, name.codec))?;
        Ok(Self { name, measured })
    }
}

/// The end of the line above the table, which tells the machine.
fn machine(stdout: &str) -> Result<String> {
    let line = stdout.lines().find_map(|line| line.split_once(", cpu "));
    Ok(format!("cpu {}", line.context("`netweight bench` does not tell the machine")?.1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(tensor: &str, codec: &str, status: &str) -> String {
        json!({
            "tensor": tensor, "shape": [2, 4], "codec": format!("{codec}:all=keys"), "status": status, "weights": 8, "bytes": 4,
            "nmse": 0.25, "relative_error": (status == "ok").then_some(0.5), "mse": 1.0, "max_abs_error": 2.0, "encode_mb_per_s": 2.0, "decode_mb_per_s": 3.0,
        })
        .to_string()
    }

    fn bench(rows: &[String]) -> Result<Bench> {
        Bench::new("s", vec!["a".to_owned(), "b".to_owned()], &rows.join("\n"), "cpu X")
    }

    #[test]
    fn cells_are_found_by_the_spec_as_given() {
        let rows = [row("t.1", "a", "ok"), row("t.1", "b", "failed"), row("u.1", "a", "ok"), row("u.1", "b", "ok")];
        let bench = bench(&rows).unwrap();
        assert_eq!(bench.cell("a", "u.1").unwrap().relative_error, 0.5);
        assert!(bench.cell("b", "t.1").is_err() && bench.cell("a", "v").is_err() && bench.cell("c", "t.1").is_err());
        assert_eq!(bench.column("b", "").unwrap().success(), 0.5);
        assert_eq!(bench.column("b", "u.").unwrap().success(), 1.0);
    }

    #[test]
    fn what_a_codec_refuses_another_takes() {
        let rows = |status| [row("t", "a", "ok"), row("t", "b", status), row("u", "a", "ok"), row("u", "b", "ok")];
        let run = bench(&rows("unsupported")).unwrap();
        assert_eq!(run.suite_column("b", Some("a")).unwrap().bytes(), 8);
        assert!(run.suite_column("b", None).is_err() && run.suite_column("b", Some("b")).is_err());
        // What failed is not refused.
        assert!(bench(&rows("failed")).unwrap().suite_column("b", Some("a")).is_err());
    }

    #[test]
    fn a_column_is_whole_if_nothing_is_refused() {
        let rows = |status| [row("t", "a", "ok"), row("t", "b", status), row("u", "a", "ok"), row("u", "b", "ok")];
        let run = bench(&rows("unsupported")).unwrap();
        assert_eq!(run.whole("a").unwrap().unwrap().weights(), 16);
        assert!(run.whole("b").unwrap().is_none() && run.whole("c").is_err());
        let refused = &run.cells("b").unwrap()[0];
        assert_eq!((refused.tensor, refused.shape, refused.measured.is_none()), ("t", &[2, 4][..], true));
        assert!(bench(&rows("failed")).unwrap().whole("b").is_err());
    }

    #[test]
    fn missing_or_merged_columns_are_refused() {
        assert!(bench(&[row("t", "a", "ok"), row("u", "a", "ok")]).is_err());
        assert!(bench(&[row("t", "a", "ok"), row("t", "b", "ok"), row("u", "a", "ok")]).is_err());
        assert!(bench(&[row("t", "a", "ok"), row("t", "b", "ok"), row("u", "b", "ok")]).is_err());
    }

    #[test]
    fn the_machine_is_in_the_line_above_the_table() {
        let stdout =
            "1 tensor, 4 weights, 1 codec\nsuite s, seed 0, commit c, cpu X, simd avx2, memcpy 9 MB/s, load 1\n";
        assert_eq!(machine(stdout).unwrap(), "cpu X, simd avx2, memcpy 9 MB/s, load 1");
        assert!(machine("").is_err());
    }
}
