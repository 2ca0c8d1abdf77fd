//! Netweight's project tasks: `cargo xtask help`.

mod changes;
mod ci;
mod claims;
mod host;
mod new_codec;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::tree::Tree;

/// Project tasks of Netweight.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure codecs: without arguments every preset over the small real model, with report files in
    /// `reports/`; arguments go on to `netweight bench` instead
    #[command(disable_help_flag = true)]
    BenchMatrix {
        /// Arguments of `netweight bench` (`--help` lists them)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Create `codec-NAME/`, a small working codec, and link it into the umbrella crate
    NewCodec {
        /// Lower-case letters, digits and hyphens, a letter first
        name: String,
    },
    /// Run `netweight` with codec crates from outside this tree:
    /// `cargo xtask host --with ../codec-demo -- bench --suite gaussian`
    Host {
        /// Directory of a codec crate (repeatable)
        #[arg(long = "with", value_name = "DIR", required = true)]
        with: Vec<PathBuf>,
        /// Arguments of `netweight`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Print what the seed documents claim beside what is measured here
    Claims {
        /// `000` to `004`; all if left out
        seed: Option<String>,
    },
    /// Write the golden payload files that do not exist yet; existing ones are never changed
    Golden,
    /// Everything that continuous integration checks; do not edit the tree meanwhile, for its copies build into
    /// the same target directory
    Ci,
}

fn main() -> ExitCode {
    run(Args::parse().task).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    let tree = Tree::find()?;
    match task {
        Task::BenchMatrix { args } => bench_matrix(&tree, &args),
        Task::NewCodec { name } => new_codec::run(&tree, &name),
        Task::Host { with, args } => host::run(&tree, &with, &args),
        Task::Claims { seed } => claims::run(seed.as_deref()),
        Task::Golden => {
            let mut golden = tree.cargo("run");
            Ok(tree::run(golden.args(["--package", "netweight-codecs", "--example", "golden"]))?.into())
        }
        Task::Ci => ci::run(&tree),
    }
}

fn bench_matrix(tree: &Tree, args: &[String]) -> Result<ExitCode> {
    let mut bench = tree.cargo("run");
    bench.args(["--release", "--package", "netweight-cli", "--", "bench"]);
    if !args.is_empty() {
        // Relative paths in the arguments are the caller's.
        return Ok(tree::run(bench.args(args))?.into());
    }
    std::fs::create_dir_all(tree.path("reports"))?;
    bench.current_dir(&tree.root).args(["--suite", "model:assets/stories260k", "--force"]);
    let reports = [("--json", "jsonl"), ("--csv", "csv"), ("--md", "md")];
    for (option, extension) in reports {
        bench.args([option, &format!("reports/bench-matrix.{extension}")]);
    }
    let code = tree::run(&mut bench)?;
    // 0 and 1: it ran to its end.
    if code < 2 {
        println!("\nreport files: {}.{{jsonl,csv,md}}", tree.path("reports/bench-matrix").display());
    }
    Ok(code.into())
}
