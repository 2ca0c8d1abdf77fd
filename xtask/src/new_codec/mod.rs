//! `cargo xtask new-codec NAME`: creates a working codec crate and adds it to the umbrella crate.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, value};

use crate::changes::Changes;
use crate::tree::Tree;

const MANIFEST: &str = include_str!("../../template/Cargo.toml.in");
const LIBRARY: &str = include_str!("../../template/lib.rs.in");
const CONFORMANCE: &str = include_str!("../../template/conformance.rs.in");

/// The crates that the template names by version, and their directories in the tree.
const PATCHED: [(&str, &str); 2] = [("netweight-codec-api", "codec-api"), ("netweight-laws", "laws")];

const PATCH_NOTE: &str = "
# Crates made by `cargo xtask new-codec` name these by version, so that they also build outside the tree.
";

/// The name of a codec crate: `[a-z][a-z0-9-]*`.
#[derive(Debug)]
struct Name(String);

impl Name {
    fn parse(text: &str) -> Result<Self> {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(letters),
            "`{text}` is no name for a codec crate: lower-case letters, digits and hyphens, a letter first"
        );
        Ok(Self(text.to_owned()))
    }

    fn directory(&self) -> String {
        format!("codec-{}", self.0)
    }

    fn package(&self) -> String {
        format!("netweight-codec-{}", self.0)
    }

    fn library(&self) -> String {
        self.directory().replace('-', "_")
    }

    fn fill(&self, template: &str) -> String {
        template
            .replace("@NAME@", &self.0)
            .replace("@PACKAGE@", &self.package())
            .replace("@LIB@", &self.library())
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
            .replace("@RUST@", env!("CARGO_PKG_RUST_VERSION"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Creates the crate and prints the next steps.
///
/// # Errors
/// If the name is invalid or already in use, or a file cannot be changed; then no file is changed.
pub fn run(tree: &Tree, name: &str) -> Result<ExitCode> {
    let name = Name::parse(name)?;
    let changes = plan(tree, &name)?;
    changes.apply()?;
    for path in changes.paths() {
        println!("wrote {}", path.strip_prefix(&tree.root).unwrap_or(path).display());
    }
    println!("\nNext:\n{}", next_steps(&name));
    Ok(ExitCode::SUCCESS)
}

fn next_steps(name: &Name) -> String {
    let (directory, package) = (name.directory(), name.package());
    format!(
        "  edit {directory}/src/lib.rs: method, keys, presets, docs
  cargo test --package {package}
      runs every law on every preset
  cargo xtask bench-matrix --codecs {name}.absmax
      measures it; without `--codecs`, beside all others
  cargo xtask golden
      writes the golden payloads of its presets, once the format is settled
The directory works outside this tree as it is: take back the changes above, then
  cargo xtask host --with DIRECTORY -- bench --codecs {name}.absmax"
    )
}

/// Writes the crate of this name into a new directory, inside or outside the tree.
///
/// # Errors
/// If the name is invalid, or a file cannot be written.
pub fn write(directory: &Path, name: &str) -> Result<()> {
    let mut changes = Changes::default();
    create(&mut changes, directory, &Name::parse(name)?);
    changes.apply()
}

fn create(changes: &mut Changes, directory: &Path, name: &Name) {
    changes.create(directory.join("Cargo.toml"), name.fill(MANIFEST));
    changes.create(directory.join("src/lib.rs"), name.fill(LIBRARY));
    changes.create(directory.join("tests/conformance.rs"), name.fill(CONFORMANCE));
}

/// All changes; none is written yet.
fn plan(tree: &Tree, name: &Name) -> Result<Changes> {
    let directory = tree.path(name.directory());
    ensure!(!directory.exists(), "{} exists already; nothing was changed", directory.display());
    let mut changes = Changes::default();
    changes.edit(tree.path("Cargo.toml"), add_patches)?;
    changes.edit(tree.path("codecs/Cargo.toml"), |text| add_feature(text, name))?;
    changes.edit(tree.path("codecs/src/lib.rs"), |text| Ok(add_reexport(text, name)))?;
    create(&mut changes, &directory, name);
    Ok(changes)
}

/// Edits the root manifest: patches replace the versions of `codec-api` and `laws` by the local
/// crates.
fn add_patches(text: &str) -> Result<String> {
    let mut manifest: DocumentMut = text.parse()?;
    let patch = subtable(manifest.as_table_mut(), "patch")?;
    patch.set_implicit(true);
    let is_new = !patch.contains_key("crates-io");
    let patches = subtable(patch, "crates-io")?;
    if is_new {
        patches.decor_mut().set_prefix(PATCH_NOTE);
    }
    for (package, path) in PATCHED {
        if !patches.contains_key(package) {
            patches.insert(package, path_dependency(path, false));
        }
    }
    Ok(manifest.to_string())
}

/// Edits the umbrella's manifest: an optional dependency, its feature, and the feature as a
/// default.
fn add_feature(text: &str, name: &Name) -> Result<String> {
    let mut manifest: DocumentMut = text.parse()?;
    let root = manifest.as_table_mut();
    subtable(root, "dependencies")?
        .entry(&name.package())
        .or_insert_with(|| path_dependency(&format!("../{}", name.directory()), true));
    let features = subtable(root, "features")?;
    let wanted = format!("dep:{}", name.package());
    let feature = features.entry(&name.0).or_insert_with(|| value(Array::from_iter([&wanted])));
    if !feature.as_array().is_some_and(|list| list.iter().any(|entry| entry.as_str() == Some(&wanted))) {
        bail!("the umbrella has a feature `{name}` already, which means something else; choose another name");
    }
    let default = features.entry("default").or_insert_with(|| value(Array::new()));
    let default = default.as_array_mut().context("`default` in `[features]` is no array")?;
    if !default.iter().any(|entry| entry.as_str() == Some(&name.0)) {
        default.push(&name.0);
    }
    Ok(manifest.to_string())
}

/// Edits the umbrella's source: a crate is linked only if the source names it. The lines stay
/// sorted, as rustfmt requires.
fn add_reexport(text: &str, name: &Name) -> String {
    let reexport = format!("pub use {};", name.library());
    let lines: Vec<_> = text.lines().collect();
    if lines.contains(&reexport.as_str()) {
        return text.to_owned();
    }
    let is_reexport = |line: &str| line.starts_with("pub use codec_");
    let later = lines.iter().position(|line| is_reexport(line) && **line > *reexport);
    let at = match later {
        Some(at) if at > 0 && lines[at - 1].starts_with("#[cfg(") => at - 1,
        Some(at) => at,
        None => lines.iter().rposition(|line| is_reexport(line)).map_or(lines.len(), |last| last + 1),
    };
    let feature = format!("#[cfg(feature = \"{name}\")]");
    let (before, after) = lines.split_at(at);
    [before, &[&feature, &reexport], after].concat().join("\n") + "\n"
}

fn subtable<'a>(table: &'a mut Table, key: &str) -> Result<&'a mut Table> {
    let item = table.entry(key).or_insert_with(|| Item::Table(Table::new()));
    item.as_table_mut().with_context(|| format!("`{key}` is no table"))
}

fn path_dependency(path: &str, optional: bool) -> Item {
    let mut dependency = InlineTable::from_iter([("path", path)]);
    if optional {
        dependency.insert("optional", true.into());
    }
    value(dependency)
}

#[cfg(test)]
mod tests;
