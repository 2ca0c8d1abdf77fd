//! Comparison of a run with an earlier one: did anything get worse?
//!
//! Two rows are compared if suite, tensor, codec, calibration, seed and tensor hash agree. Suites
//! of one model agree however its path was typed, as long as the paths lead to it. The comparison
//! covers status, payload bytes, header bytes and NMSE; a figure that becomes unknown counts as
//! worse. Speeds are not compared: they depend on the machine and its load, and a row does not
//! contain the speed of memcpy to divide them by.

use std::collections::BTreeMap;
use std::fmt;

use crate::matrix::{Row, Status};
use crate::suite::identity;
use crate::text::printable;

/// Bytes and NMSE may grow by this fraction before it is a regression, and shrink by it before it
/// is an improvement.
pub const GROWTH_TOLERANCE: f64 = 1e-3;
/// Headers may grow by this many bytes: a longer name in the header does not matter.
pub const HEADER_TOLERANCE: u64 = 64;

/// The identity of a cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Key {
    /// The suite's name.
    pub suite: String,
    /// The tensor's name.
    pub tensor: String,
    /// The codec's spec text.
    pub codec: String,
    /// Whether the codec got calibration.
    pub calibrated: bool,
    /// The suite's seed.
    pub seed: u64,
    /// The hash of the stored tensor.
    pub tensor_hash: Option<String>,
}

/// One figure of a cell that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The cell.
    pub key: Key,
    /// The column.
    pub column: &'static str,
    /// Its value in the old run.
    pub old: String,
    /// Its value in the new run.
    pub new: String,
}

/// What changed between two runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Comparison {
    /// Number of cells in both runs.
    pub compared: usize,
    /// Changes for the worse.
    pub regressions: Vec<Change>,
    /// Changes for the better.
    pub improvements: Vec<Change>,
    /// Cells that only the old run has.
    pub only_old: Vec<Key>,
    /// Cells that only the new run has.
    pub only_new: Vec<Key>,
}

/// Compares two runs, in the order of the keys.
pub fn compare(old: &[Row], new: &[Row]) -> Comparison {
    let (old, mut new) = (by_key(old), by_key(new));
    let mut comparison = Comparison::default();
    for (key, before) in old {
        let Some(after) = new.remove(&key) else {
            comparison.only_old.push(Key::of(before));
            continue;
        };
        comparison.compared += 1;
        for (column, verdict, old, new) in changes(before, after) {
            let change = Change { key: Key::of(after), column, old, new };
            match verdict {
                Verdict::Worse => comparison.regressions.push(change),
                Verdict::Better => comparison.improvements.push(change),
            }
        }
    }
    comparison.only_new = new.into_values().map(Key::of).collect();
    comparison
}

impl Key {
    fn of(row: &Row) -> Self {
        Self {
            suite: row.suite.clone(),
            tensor: row.tensor.clone(),
            codec: row.codec.clone(),
            calibrated: row.calibrated,
            seed: row.seed,
            tensor_hash: row.tensor_hash.clone(),
        }
    }
}

/// The rows by their keys, with the [`identity`] of each suite.
fn by_key(rows: &[Row]) -> BTreeMap<Key, &Row> {
    // A report has few suites, and many rows of each.
    let mut identities: BTreeMap<&str, String> = BTreeMap::new();
    let mut keyed = BTreeMap::new();
    for row in rows {
        let suite = identities.entry(&row.suite).or_insert_with(|| identity(&row.suite));
        keyed.insert(Key { suite: suite.clone(), ..Key::of(row) }, row);
    }
    keyed
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Worse,
    Better,
}

fn changes(old: &Row, new: &Row) -> Vec<(&'static str, Verdict, String, String)> {
    if old.status != new.status {
        let verdict = if new.status > old.status { Verdict::Worse } else { Verdict::Better };
        let describe = |row: &Row| match &row.reason {
            Some(reason) => format!("{} ({reason})", row.status),
            None => row.status.to_string(),
        };
        return vec![("status", verdict, describe(old), describe(new))];
    }
    if old.status != Status::Ok {
        return Vec::new();
    }
    let bytes = |count: Option<u64>| count.map(|count| count as f64);
    let header_slack = HEADER_TOLERANCE as f64;
    [
        change("bytes", bytes(old.bytes), bytes(new.bytes), 0.0),
        change("header_bytes", bytes(old.header_bytes), bytes(new.header_bytes), header_slack),
        change("nmse", old.nmse, new.nmse, 0.0),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The change of a figure if it exceeds the tolerance and `slack`.
fn change(
    column: &'static str,
    old: Option<f64>,
    new: Option<f64>,
    slack: f64,
) -> Option<(&'static str, Verdict, String, String)> {
    let grew = |from: f64, to: f64| to - from > slack.max(from * GROWTH_TOLERANCE);
    let verdict = match (old, new) {
        (Some(old), Some(new)) if grew(old, new) => Verdict::Worse,
        (Some(old), Some(new)) if grew(new, old) => Verdict::Better,
        (Some(_), None) => Verdict::Worse,
        (None, Some(_)) => Verdict::Better,
        _ => return None,
    };
    let show = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    Some((column, verdict, show(old), show(new)))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [suite, tensor, codec] = [&self.suite, &self.tensor, &self.codec].map(|name| printable(name));
        let calibrated = if self.calibrated { "calibrated, " } else { "" };
        write!(f, "{suite} / {tensor} / {codec} ({calibrated}seed {}", self.seed)?;
        match &self.tensor_hash {
            Some(hash) => write!(f, ", hash {})", printable(hash.get(..8).unwrap_or(hash))),
            None => f.write_str(")"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {} → {}", self.key, self.column, printable(&self.old), printable(&self.new))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, title: &str, items: &[T]) -> fmt::Result {
            if !items.is_empty() {
                writeln!(f, "{title}:")?;
            }
            items.iter().try_for_each(|item| writeln!(f, "  {item}"))
        }
        let (worse, better) = (self.regressions.len(), self.improvements.len());
        writeln!(f, "{} cells compared: {worse} regressions, {better} improvements", self.compared)?;
        list(f, "regressions", &self.regressions)?;
        list(f, "improvements", &self.improvements)?;
        list(f, "only in the old run", &self.only_old)?;
        list(f, "only in the new run", &self.only_new)
    }
}
