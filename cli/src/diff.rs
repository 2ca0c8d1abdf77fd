//! `netweight diff A B`: the differences between two models.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use checkpoint::contents::ChangedContents;
use checkpoint::{Change, Model, TensorDiff, diff};
use codec_api::{Registry, TensorSpec};
use serde::Serialize;

use crate::Outcome;
use crate::packing::{Bases, Work};
use crate::text::Align::{Left, Right};
use crate::text::{self, table};

/// Compare two models, dense or packed
///
/// Compares the tensors of two models by name and prints those that differ: the share of changed
/// elements, the relative difference ‖a-b‖/‖a‖ and the largest difference. Packed models
/// are decoded, piece by piece. The exit code is 0 if all tensors are identical, else 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .safetensors file, an index, a model directory, or a packed model
    #[arg(value_name = "A")]
    pub first: PathBuf,
    /// Another one
    #[arg(value_name = "B")]
    pub second: PathBuf,
    /// Print JSON, with the identical tensors too
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub base: Bases,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
}

#[derive(Serialize)]
struct Report<'a> {
    first: &'a PathBuf,
    second: &'a PathBuf,
    identical: bool,
    totals: BTreeMap<Change, usize>,
    tensors: Vec<ChangedContents<'a>>,
}

/// Prints the differences.
///
/// # Errors
/// If a model cannot be read, or the output cannot be written.
pub fn run(args: &Args, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let open = |path| Model::open_one_of_two(path, &args.base.bases, registry);
    let [first, second] = [open(&args.first)?, open(&args.second)?];
    let mut size = (0, 0);
    for name in first.names() {
        let spec = first.spec(name)?;
        size = (size.0 + spec.elements() as u64, size.1 + spec.byte_len() as u64);
    }
    let progress = args.work.progress("compare", size);
    let found = args.work.pool()?.install(|| diff(&first, &second, &progress))?;
    drop(progress);
    let mut totals = BTreeMap::new();
    for tensor in &found {
        *totals.entry(tensor.change).or_default() += 1;
    }
    let identical = totals.keys().all(|change| *change == Change::Identical);
    if args.json {
        let tensors = found.iter().map(ChangedContents::of).collect();
        let report = Report { first: &args.first, second: &args.second, identical, totals, tensors };
        text::write_json(out, &report)?;
    } else if !args.work.quiet {
        print(&found, &totals, out)?;
    }
    Ok(if identical { Outcome::Clean } else { Outcome::Found })
}

fn label(change: Change) -> &'static str {
    match change {
        Change::Identical => "identical",
        Change::Changed => "changed",
        Change::New => "new",
        Change::Removed => "removed",
        Change::Reshaped => "reshaped",
        Change::OtherDtype => "other dtype",
    }
}

fn print(found: &[TensorDiff], totals: &BTreeMap<Change, usize>, out: &mut dyn Write) -> Result<()> {
    let columns = [
        ("tensor", Left),
        ("change", Left),
        ("A", Left),
        ("B", Left),
        ("changed", Right),
        ("‖a−b‖/‖a‖", Right),
        ("max |a−b|", Right),
    ];
    let differ: Vec<_> = found.iter().filter(|tensor| tensor.change != Change::Identical).map(cells).collect();
    if !differ.is_empty() {
        writeln!(out, "{}\n", table(&columns, differ, text::width()))?;
    }
    let parts: Vec<_> = totals.iter().map(|(change, count)| format!("{count} {}", label(*change))).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    writeln!(out, "{}{parts}", text::count(found.len(), "tensor"))?;
    let sum = |of: fn(&TensorDiff) -> u64| found.iter().map(of).sum::<u64>();
    let changed = sum(|tensor| tensor.difference.map_or(0, |difference| difference.changed));
    let compared =
        sum(|tensor| tensor.difference.and(tensor.specs[0].as_ref()).map_or(0, |spec| spec.elements() as u64));
    writeln!(out, "{changed} of {compared} compared elements changed")?;
    Ok(())
}

fn cells(tensor: &TensorDiff) -> [String; 7] {
    let spec = |i: usize| {
        let spec: Option<&TensorSpec> = tensor.specs[i].as_ref();
        spec.map_or_else(|| "–".to_owned(), |spec| format!("{} {}", spec.dtype(), text::shape(spec.shape())))
    };
    let number = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| format!("{number:.2e}"));
    let share = tensor.changed_share().map_or_else(|| "–".to_owned(), |share| format!("{:.2} %", 100.0 * share));
    [
        tensor.name.clone(),
        label(tensor.change).to_owned(),
        spec(0),
        spec(1),
        share,
        number(tensor.difference.and_then(|difference| difference.relative)),
        number(tensor.difference.and_then(|difference| difference.max_abs)),
    ]
}
