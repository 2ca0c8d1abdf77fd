//! The source tree that a task works on, and the calls of cargo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use toml_edit::{DocumentMut, Item};

/// A checkout of the workspace.
#[derive(Debug)]
pub struct Tree {
    /// Its root directory.
    pub root: PathBuf,
}

/// The part of `cargo metadata` that the tasks read.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// The packages of the workspace.
    pub packages: Vec<Package>,
    /// The build directory of cargo.
    pub target_directory: PathBuf,
}

/// A package as `cargo metadata` describes it.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Absolute path of its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// The package's build targets.
    pub targets: Vec<Target>,
    /// The dependencies in the manifest.
    pub dependencies: Vec<Dependency>,
}

/// One build target of a package.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// For a library, the crate name in code.
    pub name: String,
    /// `lib`, `bin`, `test`, …
    pub kind: Vec<String>,
}

/// A line of a manifest's dependency tables.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// Package name.
    pub name: String,
    /// `None` for an ordinary dependency, else `dev` or `build`.
    pub kind: Option<String>,
    /// Registry or git address; `None` for a path.
    pub source: Option<String>,
}

impl Tree {
    /// The tree of the running `cargo xtask`.
    ///
    /// # Errors
    /// If the program was not started by cargo.
    pub fn find() -> Result<Self> {
        // The path is read at run time: copies of the tree with a shared target directory also
        // share this program.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask …`")?;
        let root = Path::new(&manifest).parent().context("xtask/ has no parent directory")?;
        Ok(Self { root: root.to_owned() })
    }

    /// A path below the root.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// `cargo SUBCOMMAND` on this tree's manifest, in the caller's directory.
    pub fn cargo(&self, subcommand: &str) -> Command {
        cargo(subcommand, &self.path("Cargo.toml"))
    }

    /// The table `profile` of the root manifest.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    pub fn profile(&self) -> Result<Option<Item>> {
        let manifest: DocumentMut = fs::read_to_string(self.path("Cargo.toml"))?.parse()?;
        Ok(manifest.get("profile").cloned())
    }

    /// Cargo's metadata of this tree.
    ///
    /// # Errors
    /// If cargo cannot read the manifests.
    pub fn metadata(&self) -> Result<Metadata> {
        metadata(&self.path("Cargo.toml"))
    }
}

/// The cargo program that started this process.
pub fn cargo_program() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `cargo SUBCOMMAND` on a manifest.
pub fn cargo(subcommand: &str, manifest: &Path) -> Command {
    let mut command = cargo_program();
    command.arg(subcommand).arg("--manifest-path").arg(manifest);
    command
}

/// Cargo's metadata of the workspace of a manifest, without resolved dependencies.
///
/// # Errors
/// If cargo cannot read the manifest.
pub fn metadata(manifest: &Path) -> Result<Metadata> {
    let mut command = cargo("metadata", manifest);
    let output = command.args(["--no-deps", "--format-version", "1"]).output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo cannot read {}:\n{}",
        manifest.display(),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    serde_json::from_slice(&output.stdout).context("`cargo metadata` printed something else than its JSON")
}

/// Runs a command to its end and returns its exit code.
///
/// # Errors
/// If the command cannot be started.
pub fn run(command: &mut Command) -> Result<u8> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    // A command ended by a signal has no exit code.
    Ok(status.code().map_or(101, |code| code as u8))
}
