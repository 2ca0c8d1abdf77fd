//! Netweight's project tasks: `cargo xtask help` lists them.

mod bench_matrix;
mod changes;
mod ci;
mod host;
mod llamacpp;
mod new_codec;
mod python;
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
    /// Measure every preset on the small real model, and write report files to `reports/`;
    /// arguments go to `netweight bench`, which then writes only the report files that they name
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
    /// Print `docs/seed*.md`: what five reports of earlier systems ("seeds") claim, measured
    #[command(disable_help_flag = true)]
    Claims(Forwarded),
    /// Print `docs/formats.md`: the formats of fixed size, measured
    #[command(disable_help_flag = true)]
    Formats(Forwarded),
    /// Print `docs/rate-distortion.md`, and draw its pictures: every codec against Shannon's bound
    #[command(disable_help_flag = true)]
    RateDistortion(Forwarded),
    /// Compare the error of `trellis` with the error of ggml's formats at equal size
    #[command(disable_help_flag = true)]
    EqualBytes(Forwarded),
    /// Print `docs/patches.md`: the size of patches beside simpler forms, and how fast they apply
    #[command(disable_help_flag = true)]
    Patches(Forwarded),
    /// Compare files with quality levels with files of one level and the same bytes
    #[command(disable_help_flag = true)]
    Levels(Forwarded),
    /// Decode damaged files of every codec, up to the first panic, slow decode or large allocation
    #[command(disable_help_flag = true)]
    Mutate(Forwarded),
    /// Print `docs/calibrated.md`: a language model packed with and without calibration
    #[command(disable_help_flag = true)]
    Calibrated(Forwarded),
    /// Print `docs/packing.md`: time and memory of packing a large model
    #[command(disable_help_flag = true)]
    Packing(Forwarded),
    /// Print `docs/workflows.md`: whole stores of model versions, beside the claims of seeds
    #[command(disable_help_flag = true)]
    Workflows(Forwarded),
    Llamacpp(llamacpp::Options),
    /// Build the Python package as a wheel, install it into a new environment, and run its tests
    Python,
    /// Write the golden payload files that do not exist yet; existing ones are never changed
    Golden,
    /// Run the checks of continuous integration, up to the first failure
    Ci {
        /// Also run the slow checks: the Python package, the laws on every preset with 2000
        /// generated tensors, a new codec in a copy of the tree, Miri
        #[arg(long)]
        full: bool,
    },
}

// Arguments for the laboratory, the package in `lab/`. (A doc comment would replace the help text
// of the tasks.)
#[derive(Debug, clap::Args)]
struct Forwarded {
    /// Arguments of the measurement (`--help` lists them)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
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
        Task::BenchMatrix { args } => bench_matrix::run(&tree, &args),
        Task::NewCodec { name } => new_codec::run(&tree, &name),
        Task::Host { with, args } => host::run(&tree, &with, &args),
        Task::Claims(rest) => measure_program(&tree, "claims", &rest),
        Task::Formats(rest) => measure(&tree, "formats", &rest),
        Task::RateDistortion(rest) => measure(&tree, "rate-distortion", &rest),
        Task::EqualBytes(rest) => measure(&tree, "equal-bytes", &rest),
        Task::Patches(rest) => measure(&tree, "patches", &rest),
        Task::Levels(rest) => measure(&tree, "levels", &rest),
        Task::Mutate(rest) => measure(&tree, "mutate", &rest),
        Task::Workflows(rest) => measure(&tree, "workflows", &rest),
        Task::Calibrated(rest) => measure_program(&tree, "calibrated", &rest),
        Task::Packing(rest) => measure_program(&tree, "packing", &rest),
        Task::Llamacpp(options) => llamacpp::run(&tree, &options),
        Task::Python => python::run(&tree),
        Task::Golden => {
            let mut golden = tree.cargo("run");
            Ok(tree::run(golden.args(["--package", "netweight-codecs", "--example", "golden"]))?.into())
        }
        Task::Ci { full } => ci::run(&tree, full),
    }
}

/// As [`measure`], for a task that starts the program.
fn measure_program(tree: &Tree, task: &str, rest: &Forwarded) -> Result<ExitCode> {
    let mut program = tree.cargo("build");
    match tree::run(program.args(["--release", "--package", "netweight-cli"]))? {
        0 => measure(tree, task, rest),
        failed => Ok(failed.into()),
    }
}

/// Runs a measurement of the laboratory and returns the exit code of that program.
fn measure(tree: &Tree, subcommand: &str, rest: &Forwarded) -> Result<ExitCode> {
    let mut lab = tree.cargo("run");
    lab.args(["--release", "--package", "netweight-lab", "--", subcommand]).args(&rest.args);
    Ok(tree::run(&mut lab)?.into())
}
