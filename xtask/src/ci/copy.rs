//! A copy of the tree, for checks that change it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tree::{self, Tree};

/// The copy has its own target directory. Cargo names build outputs after paths relative to the
/// root, so in a shared directory it would confuse the copy's outputs with those of the tree.
#[derive(Debug)]
pub struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Copies the files that git tracks or would track.
    pub fn of(tree: &Tree) -> Result<Self> {
        let place = tree.metadata()?.target_directory.join("ci");
        let copy = Self { root: place.join("tree"), target: place.join("target") };
        if copy.root.exists() {
            fs::remove_dir_all(&copy.root)?;
        }
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&tree.root);
        let listed = git.output().context("cannot start git")?;
        ensure!(listed.status.success(), "{git:?}: {}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
        // A tracked file may have been deleted.
        let files = listed.split_terminator('\0').map(Path::new).filter(|file| tree.path(file).exists());
        files.into_iter().try_for_each(|file| copy_file(&tree.path(file), &copy.root.join(file)))?;
        Ok(copy)
    }

    /// `cargo SUBCOMMAND ARGS` in the copy, in a release profile that compiles fast.
    pub fn cargo(&self, subcommand: &str, args: &[&str]) -> Command {
        // No `--manifest-path`: cargo looks for the alias `xtask` in the current directory.
        let mut command = tree::cargo_program();
        command.arg(subcommand).args(args).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        command
    }
}

/// Copies a file and its modification time, since cargo rebuilds files that look newer.
fn copy_file(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target.parent().context("a file has a directory")?)?;
    fs::copy(source, target).with_context(|| format!("cannot copy {}", source.display()))?;
    let modified = fs::metadata(source)?.modified()?;
    Ok(File::options().write(true).open(target)?.set_modified(modified)?)
}
