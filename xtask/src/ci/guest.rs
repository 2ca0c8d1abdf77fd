//! A codec crate outside the tree: it passes the laws, and `host` runs it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml_edit::{DocumentMut, Item, Table};

use super::SMALL;
use super::steps::Steps;
use crate::host::{Guest, Host, Profile, patches};
use crate::new_codec;
use crate::tree::{self, Tree};

/// Makes the crate that `new-codec` would make, in a directory far from the tree, tests it there
/// and measures it. All is built into the tree's target directory, so that the libraries are there.
pub fn check(tree: &Tree, steps: &mut Steps) -> Result<()> {
    let outside = tempfile::tempdir().context("cannot make a directory outside the tree")?;
    let directory = outside.path().join("codec-demo");
    new_codec::write(&directory, "demo")?;
    let guest = Guest::read(&directory)?;
    let target = tree.metadata()?.target_directory;

    let alone = outside.path().join("alone/codec-demo");
    new_codec::write(&alone, "demo")?;
    make_workspace(tree, &guest, &alone)?;
    let mut laws = tree::cargo("test", &alone.join("Cargo.toml"));
    steps.run("outside the tree: the laws of a new codec", laws.env("CARGO_TARGET_DIR", &target))?;

    let host = Host::write(tree, std::slice::from_ref(&guest))?;
    let mut bench = host.cargo("run", Profile::Dev);
    // The program is built to run, not to be fast.
    bench.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").args(["--quiet", "--", "bench"]).args(SMALL);
    steps.shows_demo("outside the tree: a program with it", &mut bench)
}

/// Lets a crate that names the tree's crates by version find them, and build as the tree does.
fn make_workspace(tree: &Tree, guest: &Guest, directory: &Path) -> Result<()> {
    let path = directory.join("Cargo.toml");
    let mut manifest: DocumentMut = fs::read_to_string(&path)?.parse()?;
    manifest["workspace"] = Item::Table(Table::new());
    manifest["patch"]["crates-io"] = Item::Table(patches(&tree.metadata()?, [guest], true));
    if let Some(profile) = tree.profile()? {
        manifest["profile"] = profile;
    }
    fs::write(&path, manifest.to_string())?;
    fs::copy(tree.path("Cargo.lock"), directory.join("Cargo.lock"))?;
    Ok(())
}
