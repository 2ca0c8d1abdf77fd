//! `cargo xtask ci`: the checks of continuous integration, in order, up to the first failure.

mod copy;
mod guest;
mod steps;

use std::env::consts::EXE_EXTENSION;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::Result;

use self::copy::Copy;
use self::steps::Steps;
use crate::python;
use crate::tree::Tree;

/// The suite in which a new codec must appear.
const SMALL: [&str; 4] = ["--suite", "gaussian:64x64", "--codecs", "demo.absmax"];

/// Cases per property in a full run; other runs use 48.
const CASES: &str = "2000";

/// Crates that Miri can run: no intrinsics, no C libraries.
const FOR_MIRI: [&str; 3] = ["netweight-codec-api", "netweight-entropy", "netweight-simd"];

/// Runs every check; a full run includes the slow ones.
///
/// # Errors
/// The first check that fails, with the command that repeats it.
pub fn run(tree: &Tree, full: bool) -> Result<ExitCode> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("ci: {cores} cores");
    let mut steps = Steps::default();
    check_tree(tree, &mut steps)?;
    guest::check(tree, full, &mut steps)?;
    check_python(tree, &mut steps)?;
    if full {
        check_long(tree, &mut steps)?;
    }
    println!("\n{steps}");
    Ok(ExitCode::SUCCESS)
}

fn check_tree(tree: &Tree, steps: &mut Steps) -> Result<()> {
    steps.run("format", tree.cargo("fmt").args(["--all", "--check"]))?;
    steps.run("clippy", tree.cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    steps.run("docs", tree.cargo("doc").args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    steps.run("tests: build", tree.cargo("test").args(["--workspace", "--no-run"]))?;
    // The kernels that the tests run differ between machines. The build above has made this
    // example.
    let level = tree.metadata()?.target_directory.join("debug/examples/level").with_extension(EXE_EXTENSION);
    steps.run("SIMD level", &mut Command::new(level))?;
    // This also runs the examples in the documentation.
    steps.run("tests", tree.cargo("test").arg("--workspace"))
}

/// The package index is no part of the checks: where it cannot be reached, they go on without it.
fn check_python(tree: &Tree, steps: &mut Steps) -> Result<()> {
    let Some(mut commands) = python::Commands::new(tree)? else {
        println!("\nci: Python: left out, since there is no python3 with the modules venv and ensurepip");
        return Ok(());
    };
    if !commands.prepare()? {
        println!("\nci: Python: left out, since its tools cannot be installed");
        return Ok(());
    }
    commands.check(|name, command| steps.run(name, command))
}

fn check_long(tree: &Tree, steps: &mut Steps) -> Result<()> {
    steps.run(
        &format!("tests: every preset, {CASES} cases of each property"),
        tree.cargo("test").args(["--workspace", "--tests"]).envs([
            ("PROPTEST_CASES", CASES),
            ("NETWEIGHT_LAWS", "full"),
            ("NETWEIGHT_KILLS", "60"),
        ]),
    )?;
    check_new_codec(tree, steps)?;
    if !has_miri(tree) {
        println!("\nci: Miri: left out, since the toolchain does not have it");
        return Ok(());
    }
    let packages = FOR_MIRI.iter().flat_map(|package| ["--package", package]);
    steps.run("Miri", tree.cargo("miri").arg("test").args(packages).args(["--lib"]).env("PROPTEST_CASES", "4"))
}

/// Checks a codec that `new-codec` creates in a copy of the tree: its formatting, the umbrella
/// crate with it, and the main measurement in the release profile.
fn check_new_codec(tree: &Tree, steps: &mut Steps) -> Result<()> {
    let copy = Copy::of(tree)?;
    steps.run("new-codec", &mut copy.cargo("xtask", &["new-codec", "demo"]))?;
    steps.run("new-codec: format", &mut copy.cargo("fmt", &["--all", "--check"]))?;
    steps.run("new-codec: the umbrella", &mut copy.cargo("test", &["--package", "netweight-codecs"]))?;
    let bench = [&["bench-matrix"][..], &SMALL].concat();
    steps.shows_demo("new-codec: bench-matrix", &mut copy.cargo("xtask", &bench))
}

fn has_miri(tree: &Tree) -> bool {
    let mut command: Command = tree.cargo("miri");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
