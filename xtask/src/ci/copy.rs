//! A copy of the tree, for checks that change it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tree::{self, Tree};

/// The copy has a target directory of its own. It cannot be the tree's: cargo names what it builds
/// after paths relative to the root, and would take what it built from the copy for the tree's.
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

    /// `cargo SUBCOMMAND ARGS` in the copy, in a release profile that builds fast.
    pub fn cargo(&self, subcommand: &str, args: &[&str]) -> Command {
        // Without `--manifest-path`: the alias `xtask` is found from the current directory.
        let mut command = tree::cargo_program();
        command.arg(subcommand).args(args).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        command
    }
}

/// Copies a file with its time: cargo builds again what looks newer.
fn copy_file(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target.parent().context("a file has a directory")?)?;
    fs::copy(source, target).with_context(|| format!("cannot copy {}", source.display()))?;
    let modified = fs::metadata(source)?.modified()?;
    Ok(File::options().write(true).open(target)?.set_modified(modified)?)
}
