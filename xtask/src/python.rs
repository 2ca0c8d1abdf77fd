//! `cargo xtask python`: the Python package, built as a wheel, installed and tested.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tree::{self, Tree};

/// What a new environment gets. Tests that need more, such as torch, are skipped.
const PACKAGES: [&str; 6] = ["maturin>=1.9,<2", "mypy", "numpy", "pytest", "ruff", "safetensors"];

/// The interpreter that makes the environment.
const PYTHON: &str = "python3";

/// The cargo that builds the extension with the libraries of the tests.
const CARGO: &str = "xtask/cargo_for_maturin.sh";

/// The commands of the task, each with its name.
#[derive(Debug)]
pub struct Commands {
    /// These need the package index.
    prepare: [(&'static str, Command); 2],
    check: [(&'static str, Command); 6],
}

impl Commands {
    /// Makes a new environment below the target directory, builds the wheel with the libraries of
    /// the tests, and tests it there. `None` without Python.
    ///
    /// # Errors
    /// If cargo cannot read the manifests.
    pub fn new(tree: &Tree) -> Result<Option<Self>> {
        if !has_python() {
            return Ok(None);
        }
        let target = tree.metadata()?.target_directory;
        let (environment, wheels) = (target.join("python/environment"), target.join("python/wheels"));
        let program = |name: &str| Command::new(programs(&environment).join(name));
        let mut make = Command::new(PYTHON);
        make.args(["-m", "venv", "--clear"]).arg(&environment);
        let mut packages = program("python");
        packages.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
        let mut build = program("maturin");
        build.args(["build", "--quiet", "--profile", "dev", "--compatibility", "linux", "--manifest-path"]);
        build.arg(tree.path("python/Cargo.toml")).arg("--out").arg(&wheels);
        build.env("CARGO_TARGET_DIR", &target).env("CARGO", tree.path(CARGO)).current_dir(&tree.root);
        let mut install = program("python");
        install.args(["-m", "pip", "install", "--quiet", "--no-index", "--find-links"]).arg(&wheels);
        install.args(["--disable-pip-version-check", "netweight"]);
        // Out of `python/`, where the package has no extension module.
        let mut tests = program("pytest");
        tests.args(["--quiet", "-rs", "-p", "no:cacheprovider", "python/tests"]).current_dir(&tree.root);
        let mut style = program("ruff");
        style.args(["check", "--no-cache", "python"]).current_dir(&tree.root);
        let mut format = program("ruff");
        format.args(["format", "--no-cache", "--check", "python"]).current_dir(&tree.root);
        let mut types = program("mypy");
        types.arg("--cache-dir").arg(target.join("python/types")).current_dir(tree.path("python"));
        Ok(Some(Self {
            prepare: [("Python: a new environment", make), ("Python: packages", packages)],
            check: [
                ("Python: style", style),
                ("Python: format", format),
                ("Python: types", types),
                ("Python: the wheel", build),
                ("Python: its installation", install),
                ("Python: tests", tests),
            ],
        }))
    }

    /// Makes the environment. The result is whether that was possible.
    ///
    /// # Errors
    /// If a command cannot be started.
    pub fn prepare(&mut self) -> Result<bool> {
        for (_, command) in &mut self.prepare {
            if tree::run(command)? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs the checks in their order, up to the first error.
    ///
    /// # Errors
    /// That of `run`.
    pub fn check(mut self, mut run: impl FnMut(&str, &mut Command) -> Result<()>) -> Result<()> {
        self.check.iter_mut().try_for_each(|(name, command)| run(name, command))
    }
}

/// Whether there is an interpreter that can make environments.
fn has_python() -> bool {
    let mut command = Command::new(PYTHON);
    command.args(["-c", "import venv, ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The programs of an environment.
fn programs(environment: &Path) -> PathBuf {
    environment.join(if cfg!(windows) { "Scripts" } else { "bin" })
}

/// Runs the task.
///
/// # Errors
/// Without Python, and if a command cannot be started or fails.
pub fn run(tree: &Tree) -> Result<ExitCode> {
    let commands = Commands::new(tree)?;
    let mut commands = commands.context("`python3`, with the modules venv and ensurepip, is not on the path")?;
    ensure!(commands.prepare()?, "an environment with {} cannot be made", PACKAGES.join(", "));
    commands.check(|name, command| {
        println!("{name}");
        ensure!(tree::run(command)? == 0, "{name} failed; repeat it with\n  {command:?}");
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
