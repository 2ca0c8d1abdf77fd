//! A codec crate outside the tree: the crate passes the laws, and `host` runs it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml_edit::{DocumentMut, Item, Table};

use super::SMALL;
use super::steps::Steps;
use crate::host::{Guest, Host, Profile, patches};
use crate::new_codec;
use crate::tree::{self, Tree};

/// Creates the same crate as `new-codec` in a directory outside the tree, and tests it there; a
/// full run also measures it with a program of its own. All builds use the tree's target
/// directory, which already contains the libraries.
pub fn check(tree: &Tree, full: bool, steps: &mut Steps) -> Result<()> {
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
    if !full {
        return Ok(());
    }

    let host = Host::write(tree, std::slice::from_ref(&guest), Profile::Dev)?;
    let mut bench = host.program(&[&["bench"][..], &SMALL].concat());
    steps.shows_demo("outside the tree: a program with it", &mut bench)
}

/// Adds a workspace to the crate's manifest, so that the tree's crates are found by version and
/// build with the tree's profile.
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
