//! Netweight's project tasks: `cargo xtask help`.

mod bench_matrix;
mod changes;
mod ci;
mod claims;
mod equal_bytes;
mod formats;
mod host;
mod measure;
mod new_codec;
mod rate_distortion;
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
    /// Measure every preset over the small real model, and write report files in `reports/`; arguments go on to
    /// `netweight bench` and refine it (only the report files that they name are written then)
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
    /// Measure what the seeds, five reports of earlier systems, claim, and print it as Markdown
    #[command(after_help = claims::help())]
    Claims {
        /// A seed, `002` or `seed002`; all if left out
        seed: Option<String>,
    },
    /// Measure the fixed formats, and print them as Markdown with what other software reads them
    Formats,
    /// Measure the error of `trellis` beside those of ggml's formats in the same bytes, and print it as Markdown
    EqualBytes {
        /// A suite of `netweight bench`; trained layers in `assets/` if left out
        suite: Option<String>,
    },
    /// Measure every codec beside Shannon's bound, draw the pictures of `docs/rate-distortion.md`, and print that page
    RateDistortion,
    /// Write the golden payload files that do not exist yet; existing ones are never changed
    Golden,
    /// Everything that continuous integration checks, up to the first failure
    Ci {
        /// Also what takes long: the laws on every preset with 2000 generated tensors, a new codec in a
        /// copy of the tree, Miri
        #[arg(long)]
        full: bool,
    },
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
        Task::Claims { seed } => claims::run(&tree, seed.as_deref()),
        Task::Formats => formats::run(&tree),
        Task::EqualBytes { suite } => equal_bytes::run(&tree, suite.as_deref()),
        Task::RateDistortion => rate_distortion::run(&tree),
        Task::Golden => {
            let mut golden = tree.cargo("run");
            Ok(tree::run(golden.args(["--package", "netweight-codecs", "--example", "golden"]))?.into())
        }
        Task::Ci { full } => ci::run(&tree, full),
    }
}
