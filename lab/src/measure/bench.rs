//! One run of the matrix and its cells.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use harness::matrix::{self, Options, Row, Status, columns_for};
use harness::report::RunInfo;
use harness::suite::{Suite, SuiteOptions};

use super::column::{Column, Measured};
use crate::lab::Lab;

/// The cells of a finished run.
#[derive(Debug)]
pub struct Bench {
    /// The suite's name, with paths relative to the root.
    suite: String,
    /// Codec specs as given, in the order of each tensor's rows.
    specs: Vec<String>,
    /// Tensor by tensor.
    rows: Vec<Row>,
    /// Machine, compiler, speed of memcpy, and load.
    machine: String,
}

impl Bench {
    /// Measures these codecs on a suite.
    ///
    /// # Errors
    /// For an unknown suite or codec, or if two specs mean the same codec.
    pub fn run(lab: &Lab, suite: &str, specs: BTreeSet<&str>) -> Result<Self> {
        eprintln!("measuring {suite}");
        let specs: Vec<_> = specs.into_iter().map(str::to_owned).collect();
        let columns = columns_for(&lab.registry, &specs)?;
        ensure!(columns.len() == specs.len(), "suite {suite}: two specs mean the same codec");
        let suite = Suite::parse(suite, &SuiteOptions::default())?;
        let machine = machine(&RunInfo::measure(&suite, None));
        let rows = matrix::run(&suite, &columns, &Options::new(&lab.registry), &mut ());
        let suite = suite.name.replace(&lab.root.join("").display().to_string(), "");
        Ok(Self { suite, specs, rows, machine })
    }

    /// Suite and machine, as an item of a list.
    pub fn conditions(&self) -> String {
        format!("- `{}`: {}\n", self.suite, self.machine)
    }

    /// One tensor through one codec.
    ///
    /// # Errors
    /// If there is no such cell, or it is not `ok`.
    pub fn cell(&self, spec: &str, tensor: &str) -> Result<Measured> {
        let row = self.of(spec)?.find(|row| row.tensor == tensor);
        row.and_then(Measured::of).with_context(|| {
            let reason = row.map_or(Some("there is no such tensor"), |row| row.reason.as_deref());
            let reason = reason.unwrap_or("a figure is unknown");
            format!("suite {}: `{spec}` has no result for `{tensor}`: {reason}", self.suite)
        })
    }

    /// The tensors whose name starts with `prefix`, through one codec.
    ///
    /// # Errors
    /// If the codec was not measured, or no cell is `ok`.
    pub fn column(&self, spec: &str, prefix: &str) -> Result<Column> {
        let column: Column = self.of(spec)?.filter(|row| row.tensor.starts_with(prefix)).map(Measured::of).collect();
        ensure!(column.success() > 0.0, "suite {}: `{spec}` has no result for `{prefix}…`", self.suite);
        Ok(column)
    }

    /// Every tensor through one codec; the tensors that it refuses through `instead`.
    ///
    /// # Errors
    /// If a codec was not measured, or a cell is not `ok`.
    pub fn suite_column(&self, spec: &str, instead: Option<&str>) -> Result<Column> {
        let cell = |row: &Row| {
            let instead = instead.filter(|_| row.status == Status::Unsupported);
            self.cell(instead.unwrap_or(spec), &row.tensor).map(Some)
        };
        self.of(spec)?.map(cell).collect()
    }

    /// Every tensor through one codec; `None` if it refuses one.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn whole(&self, spec: &str) -> Result<Option<Column>> {
        let column: Column = self.rows(spec)?.into_iter().map(Measured::of).collect();
        Ok(Some(column).filter(|column| column.success() == 1.0))
    }

    /// The rows of one codec, in the suite's order.
    ///
    /// # Errors
    /// If the codec was not measured, or a cell failed.
    pub fn rows(&self, spec: &str) -> Result<Vec<&Row>> {
        let rows: Vec<_> = self.of(spec)?.collect();
        if let Some(Row { tensor, reason, .. }) = rows.iter().find(|row| row.status == Status::Failed) {
            let reason = reason.as_deref().unwrap_or("no reason given");
            bail!("suite {}: `{spec}` failed on `{tensor}`: {reason}", self.suite);
        }
        Ok(rows)
    }

    fn of(&self, spec: &str) -> Result<impl Iterator<Item = &Row>> {
        // A row has the spec with all its keys, so the position identifies the spec as given.
        let position = self.specs.iter().position(|known| known == spec);
        let position = position.with_context(|| format!("suite {}: `{spec}` was not measured", self.suite))?;
        Ok(self.rows.iter().skip(position).step_by(self.specs.len()))
    }
}

fn machine(info: &RunInfo) -> String {
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let load = info.load_average.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
    format!(
        "cpu {}, simd {}, rustc {}, memcpy {:.0} MB/s, load {load}",
        or_unknown(&info.machine.cpu),
        info.machine.simd,
        or_unknown(&info.machine.rustc),
        info.memcpy_mb_per_s,
    )
}

#[cfg(test)]
mod tests {
    use codec_api::Registry;

    use super::*;

    const BLOCKS: &str = "quant.q4_0";
    const BYTES: &str = "quant.int";

    /// Two tensors; `quant.q4_0` refuses the second, whose rows are no whole blocks. Its rows are
    /// the second and the last.
    fn bench() -> Bench {
        let lab = Lab { root: "/tree".into(), registry: Registry::linked().unwrap() };
        let mut bench = Bench::run(&lab, "gaussian:4x64", [BLOCKS, BYTES].into()).unwrap();
        let second = Bench::run(&lab, "laplace:4x50", [BLOCKS, BYTES].into()).unwrap();
        bench.rows.extend(second.rows);
        bench
    }

    #[test]
    fn cells_are_found_by_the_spec_as_given() {
        let bench = bench();
        assert_eq!(bench.cell(BLOCKS, "gaussian").unwrap().bytes, 4 * 2 * 18);
        assert!(bench.cell(BLOCKS, "laplace").is_err() && bench.cell("quant.nf4", "gaussian").is_err());
        assert_eq!(bench.column(BLOCKS, "").unwrap().success(), 0.5);
        assert!(bench.column(BLOCKS, "l").is_err());
        let message = bench.cell(BYTES, "x").unwrap_err().to_string();
        assert_eq!(message, "suite gaussian:4x64: `quant.int` has no result for `x`: there is no such tensor");
    }

    #[test]
    fn another_codec_stands_in_for_refused_tensors() {
        let mut bench = bench();
        let both = bench.cell(BLOCKS, "gaussian").unwrap().bytes + bench.cell(BYTES, "laplace").unwrap().bytes;
        assert_eq!(bench.suite_column(BLOCKS, Some(BYTES)).unwrap().bytes(), both);
        assert!(bench.suite_column(BLOCKS, None).is_err() && bench.suite_column(BLOCKS, Some(BLOCKS)).is_err());
        // A failure is not a refusal.
        bench.rows[3].status = Status::Failed;
        assert!(bench.suite_column(BLOCKS, Some(BYTES)).is_err());
    }

    #[test]
    fn a_column_is_whole_if_no_tensor_is_refused() {
        let mut bench = bench();
        assert_eq!(bench.whole(BYTES).unwrap().unwrap().weights(), 256 + 200);
        assert!(bench.whole(BLOCKS).unwrap().is_none() && bench.whole("quant.nf4").is_err());
        assert_eq!(bench.rows(BLOCKS).unwrap()[1].shape, [4, 50]);
        bench.rows[3].status = Status::Failed;
        assert!(bench.whole(BLOCKS).is_err());
    }

    #[test]
    fn two_specs_of_one_codec_are_refused() {
        let lab = Lab { root: "/tree".into(), registry: Registry::linked().unwrap() };
        assert!(Bench::run(&lab, "gaussian:4x64", ["seedlm", "seedlm:preset=4bit"].into()).is_err());
    }
}
