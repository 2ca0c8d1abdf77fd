//! The cells that a run had measured before it was interrupted.

use std::collections::HashMap;

use super::cell::gets_calibration;
use super::errors::finite;
use super::{Column, Machine, Options, Row};
use crate::suite::{Item, Suite, identity};

/// Rows that a run takes over.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// By tensor and codec.
    rows: HashMap<(String, String), Row>,
}

/// The rows are those of another run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {what} is `{earlier}`, and that of this run is `{now}`")]
#[non_exhaustive]
pub struct OtherRun {
    /// The setting that differs.
    pub what: String,
    /// Its value in the earlier run.
    pub earlier: String,
    /// Its value now.
    pub now: String,
}

impl Earlier {
    /// The rows of these tensors and columns. Reads and hashes their tensors, because the model may
    /// have changed.
    ///
    /// # Errors
    /// [`OtherRun`] if suite, seed, program, machine, tensor or calibration differ.
    pub fn new(rows: Vec<Row>, suite: &Suite, columns: &[Column], options: &Options<'_>) -> Result<Self, OtherRun> {
        let machine = Machine::this();
        let mut rest: HashMap<String, Vec<Row>> = HashMap::new();
        for row in rows {
            check_run(&row, suite, options, &machine)?;
            if columns.iter().any(|column| column.spec == row.codec) {
                rest.entry(row.tensor.clone()).or_default().push(row);
            }
        }
        let mut earlier = Self::default();
        for item in &suite.items {
            let Some(rows) = rest.remove(&item.name) else { continue };
            let (hash, energy) = (suite.hash(item), energy(suite, item));
            for mut row in rows {
                check_tensor(&row, item, hash.as_deref())?;
                check_calibration(&row, item, columns, options)?;
                row.energy = energy;
                earlier.rows.insert((row.tensor.clone(), row.codec.clone()), row);
            }
        }
        Ok(earlier)
    }

    /// The row of this tensor and codec.
    pub(super) fn row(&self, tensor: &str, codec: &str) -> Option<&Row> {
        self.rows.get(&(tensor.to_owned(), codec.to_owned()))
    }
}

fn same(what: &str, earlier: Option<&str>, now: Option<&str>) -> Result<(), OtherRun> {
    if earlier == now {
        return Ok(());
    }
    let [earlier, now] = [earlier, now].map(|text| text.unwrap_or("unknown").to_owned());
    Err(OtherRun { what: what.to_owned(), earlier, now })
}

fn check_run(row: &Row, suite: &Suite, options: &Options<'_>, machine: &Machine) -> Result<(), OtherRun> {
    if row.suite != suite.name {
        same("suite", Some(&identity(&row.suite)), Some(&identity(&suite.name)))?;
    }
    same("seed", Some(&row.seed.to_string()), Some(&suite.seed.to_string()))?;
    same("commit", row.commit.as_deref(), options.commit.as_deref())?;
    same("cpu", row.cpu.as_deref(), machine.cpu.as_deref())?;
    same("simd", Some(&row.simd), Some(&machine.simd))?;
    same("rustc", row.rustc.as_deref(), machine.rustc.as_deref())
}

fn check_tensor(row: &Row, item: &Item, hash: Option<&str>) -> Result<(), OtherRun> {
    same(&format!("hash of tensor `{}`", item.name), row.tensor_hash.as_deref(), hash)
}

/// A codec may have refused a tensor before it got calibration; only results depend on it.
fn check_calibration(row: &Row, item: &Item, columns: &[Column], options: &Options<'_>) -> Result<(), OtherRun> {
    let Some(column) = columns.iter().find(|column| column.spec == row.codec) else { return Ok(()) };
    let now = item.calibration.is_some() && gets_calibration(column, options);
    let text = |calibrated: bool| Some(if calibrated { "with calibration" } else { "without calibration" });
    let earlier = if row.bytes.is_some() { row.calibrated } else { now };
    same(&format!("`{}` of tensor `{}`", row.codec, row.tensor), text(earlier), text(now))
}

/// ‖w‖², which reports do not contain, over the finite weights; 0 if they are not floats.
fn energy(suite: &Suite, item: &Item) -> Option<f64> {
    let item = suite.prepared(item).ok()?;
    if !item.spec.is_float() {
        return Some(0.0);
    }
    let values = item.to_f32().ok()?;
    finite(values.iter().filter(|w| w.is_finite()).map(|w| f64::from(*w) * f64::from(*w)).sum())
}
