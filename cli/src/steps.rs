//! `netweight plan`, `run` and `commit`: the steps of `compress`, for several processes.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use anyhow::Result;
use checkpoint::Ran;
use codec_api::{Progress, Registry};
use rayon::prelude::*;

use crate::options::{Options, check_target};
use crate::packing::{Work, check_free};
use crate::{Outcome, summary, text};

/// Units that a line names.
const NAMED: usize = 16;

/// Plan to compress a model in several processes
///
/// Writes a plan, a JSON file. Its units can then be encoded by any number of processes that see
/// the same files (`netweight run`), and `netweight commit` puts their parts together. The result
/// has the same bytes as that of `compress`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Plan {
    /// Model and recipe.
    #[command(flatten)]
    pub options: Options,
    /// The packed file (*.nw.safetensors), or a directory for it
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// The plan's file
    #[arg(long = "plan", value_name = "PLAN.json")]
    pub file: PathBuf,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
}

const HELP: &str = "\
Examples:
  netweight plan my-model -o packed --recipe int8 --plan plan.json
  netweight run plan.json --shard 1/3      in three processes, with 1/3, 2/3, 3/3
  netweight commit plan.json               when all have ended

`netweight compress --help` describes recipes.";

/// Encode units of a plan
///
/// Writes a part for each unit, whole or not at all. A unit that has run is kept, so that a command
/// may be given again. Without --shard and --unit it runs all units.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The plan's file
    #[arg(value_name = "PLAN")]
    pub file: PathBuf,
    /// Share I of N, counted from 1: the units I-1, I-1+N, and so on
    #[arg(long, value_name = "I/N", conflicts_with = "unit")]
    pub shard: Option<Shard>,
    /// One unit, counted from 0
    #[arg(long, value_name = "N")]
    pub unit: Option<usize>,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
}

/// Put the parts of a plan together
///
/// Checks the packed file, copies the files beside the model, gives the packed file its name and
/// removes the parts. An older file of that name is replaced.
#[derive(Debug, clap::Args)]
pub struct Commit {
    /// The plan's file
    #[arg(value_name = "PLAN")]
    pub file: PathBuf,
    /// Leave out the check of the packed file
    #[arg(long)]
    pub no_verify: bool,
    /// Threads and output.
    #[command(flatten)]
    pub work: Work,
}

/// Share `index` of `count`; the index counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            None => Err("a share is I/N, such as 1/3".to_owned()),
            Some((_, 0)) => Err("there must be at least one share".to_owned()),
            Some((i, n)) if (1..=n).contains(&i) => Ok(Self { index: i - 1, count: n }),
            Some((i, n)) => Err(format!("there is no share {i} of {n}: they are 1/{n} to {n}/{n}")),
        }
    }
}

/// Writes the plan.
///
/// # Errors
/// For wrong options, an unreadable model, or files that exist or cannot be written.
pub fn plan(args: &Plan, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let plan = args.options.plan(&args.output, registry)?;
    check_target(&plan, &args.output, args.force)?;
    check_free(&args.file, args.force)?;
    plan.save(&args.file)?;
    let (shown, units) = (text::path(&args.file), text::count(plan.units(), "unit"));
    let (weights, bytes) = plan.size(&all(&plan));
    writeln!(out, "`{shown}`: {units}, {weights} weights, {}", text::size(bytes))?;
    writeln!(out, "`netweight run {shown}` encodes all, with `--shard 1/2` half of them")?;
    Ok(Outcome::Clean)
}

/// Runs units.
///
/// # Errors
/// For an unreadable plan, a unit that does not exist, a source that has changed, and parts that
/// cannot be written.
pub fn run(args: &Run, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let plan = checkpoint::Plan::load(&args.file)?;
    let units: Vec<usize> = match (args.unit, args.shard) {
        (Some(unit), _) => vec![unit],
        (None, Some(Shard { index, count })) => all(&plan).into_iter().skip(index).step_by(count).collect(),
        (None, None) => all(&plan),
    };
    let progress = args.work.progress("encode", plan.size(&units));
    let run = |unit: &usize| plan.run_unit(*unit, registry, &progress);
    let ran: Vec<Ran> = args.work.pool()?.install(|| units.par_iter().map(run).collect::<Result<_, _>>())?;
    drop(progress);
    if args.work.quiet {
        return Ok(Outcome::Clean);
    }
    let encoded = ran.iter().filter(|ran| **ran == Ran::Encoded).count();
    let kept = units.len() - encoded;
    let kept = if kept == 0 { String::new() } else { format!(", {} had run before", text::count(kept, "unit")) };
    writeln!(out, "{} encoded{kept}", text::count(encoded, "unit"))?;
    let (missing, shown) = (plan.missing_units()?, text::path(&args.file));
    if missing.is_empty() {
        writeln!(out, "all units have run; `netweight commit {shown}` puts their parts together")?;
    } else {
        let mut names: Vec<_> = missing.iter().take(NAMED).map(ToString::to_string).collect();
        names.extend((missing.len() > NAMED).then(|| "…".to_owned()));
        writeln!(out, "{} of {} are left: {}", missing.len(), plan.units(), names.join(", "))?;
    }
    Ok(Outcome::Clean)
}

/// Commits the plan.
///
/// # Errors
/// For an unreadable plan, units that have not run, a source that has changed, and a target that
/// cannot be written.
pub fn commit(args: &Commit, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let begin = Instant::now();
    let plan = checkpoint::Plan::load(&args.file)?;
    if !plan.parts().exists() && plan.is_committed(registry) {
        if !args.work.quiet {
            let shown = text::path(&plan.written());
            writeln!(out, "`{shown}` is there, as this plan makes it: a commit has ended before")?;
        }
        return Ok(Outcome::Clean);
    }
    let check = (!args.no_verify).then(|| args.work.progress("check", plan.size(&all(&plan))));
    args.work.pool()?.install(|| plan.commit(registry, check.as_ref().map(|check| check as &dyn Progress)))?;
    drop(check);
    if !args.work.quiet {
        let [model, packed] = plan.places();
        summary::print(&plan, [&model, &packed], &plan.bases(), !args.no_verify, begin.elapsed(), registry, out)?;
    }
    Ok(Outcome::Clean)
}

/// All units of a plan.
pub fn all(plan: &checkpoint::Plan) -> Vec<usize> {
    (0..plan.units()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_count_from_one() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 1, count: 3 }));
        for (text, part) in
            [("4/3", "they are 1/3 to 3/3"), ("0/3", "no share 0"), ("1/0", "at least one"), ("2", "I/N")]
        {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
