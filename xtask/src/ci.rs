//! `cargo xtask ci`: what continuous integration checks, in order, up to the first failure.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::tree::Tree;

/// The suite on which a new codec must show up.
const SMALL: [&str; 4] = ["--suite", "gaussian:64x64", "--codecs", "demo.absmax"];

/// Runs every check.
///
/// # Errors
/// The first check that fails, with the command that repeats it.
pub fn run(tree: &Tree) -> Result<ExitCode> {
    let begin = Instant::now();
    check_tree(tree)?;
    check_new_codec(tree)?;
    println!("\nci: all passed in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn check_tree(tree: &Tree) -> Result<()> {
    step("format", tree.cargo("fmt").args(["--all", "--check"]))?;
    step("clippy", tree.cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("docs", tree.cargo("doc").args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    // The examples in the documentation are among them.
    step("tests", tree.cargo("test").arg("--workspace"))
}

/// A codec made by `new-codec` passes the laws and is measured, in the tree and outside it.
fn check_new_codec(tree: &Tree) -> Result<()> {
    let place = tree.metadata()?.target_directory.join("ci");
    let copy =
        Copy { source: tree.root.clone(), place: Tree { root: place.join("tree") }, target: place.join("target") };
    copy.refresh()?;
    step("new-codec", &mut copy.cargo("xtask", &["new-codec", "demo"]))?;
    step("new-codec: format", &mut copy.cargo("fmt", &["--all", "--check"]))?;
    step("new-codec: its laws", &mut copy.cargo("test", &["--package", "netweight-codec-demo"]))?;
    step("new-codec: the umbrella", &mut copy.cargo("test", &["--package", "netweight-codecs"]))?;
    let bench = [&["bench-matrix"][..], &SMALL].concat();
    shows_demo("new-codec: bench-matrix", &mut copy.cargo("xtask", &bench))?;

    let outside = tempfile::tempdir().context("cannot make a directory outside the tree")?;
    let guest = outside.path().join("codec-demo");
    copy_files(
        &copy.place.path("codec-demo"),
        &guest,
        &["Cargo.toml", "src/lib.rs", "tests/conformance.rs"].map(PathBuf::from),
    )?;
    copy.refresh()?;
    let guest = guest.display().to_string();
    let host = [&["host", "--with", &guest, "--", "bench"][..], &SMALL].concat();
    shows_demo("host: a codec from outside", &mut copy.cargo("xtask", &host))
}

/// A copy of the tree with a target directory of its own, shared by all that is built from the copy. It cannot be the
/// tree's: cargo would take what it built from the copy for what it built from the tree.
struct Copy {
    source: PathBuf,
    place: Tree,
    target: PathBuf,
}

impl Copy {
    /// Makes the copy anew, from the files that git tracks or would track.
    fn refresh(&self) -> Result<()> {
        if self.place.root.exists() {
            fs::remove_dir_all(&self.place.root)?;
        }
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&self.source);
        let listed = git.output().context("cannot start git")?;
        ensure!(listed.status.success(), "{git:?}: {}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
        // A tracked file may have been deleted.
        let files: Vec<_> =
            listed.split_terminator('\0').map(PathBuf::from).filter(|f| self.source.join(f).exists()).collect();
        copy_files(&self.source, &self.place.root, &files)
    }

    fn cargo(&self, subcommand: &str, args: &[&str]) -> Command {
        // Without `--manifest-path`: the alias `xtask` is found from the current directory.
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.arg(subcommand).args(args).current_dir(&self.place.root).env("CARGO_TARGET_DIR", &self.target);
        // What is built here shall run, not be fast: optimising the libraries takes minutes.
        for (key, value) in [("LTO", "off"), ("CODEGEN_UNITS", "16"), ("OPT_LEVEL", "1")] {
            command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        command
    }
}

/// Copies files with their times: cargo builds again what looks newer.
fn copy_files(from: &Path, to: &Path, files: &[PathBuf]) -> Result<()> {
    for file in files {
        let (source, target) = (from.join(file), to.join(file));
        fs::create_dir_all(target.parent().context("a file has a directory")?)?;
        fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        let modified = fs::metadata(&source)?.modified()?;
        File::options().write(true).open(&target)?.set_modified(modified)?;
    }
    Ok(())
}

/// Runs one check.
fn step(name: &str, command: &mut Command) -> Result<()> {
    timed(name, command, |command| Ok(command.status()?.success()))
}

/// Runs a benchmark and looks for the new codec's row in what it prints.
fn shows_demo(name: &str, command: &mut Command) -> Result<()> {
    timed(name, command, |command| {
        let output = command.stderr(Stdio::inherit()).output()?;
        let table = String::from_utf8_lossy(&output.stdout);
        print!("{table}");
        Ok(output.status.success() && table.contains("demo.absmax"))
    })
}

fn timed(name: &str, command: &mut Command, passes: impl FnOnce(&mut Command) -> io::Result<bool>) -> Result<()> {
    println!("\nci: {name}");
    let begin = Instant::now();
    if !passes(command).with_context(|| format!("cannot start {command:?}"))? {
        bail!("{name} failed; repeat it with\n  {command:?}");
    }
    println!("ci: {name}: passed in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}
