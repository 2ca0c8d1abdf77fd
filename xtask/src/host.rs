//! `cargo xtask host --with DIR`: the `netweight` program with codec crates from outside the tree.
//!
//! The task generates the package that a third party would write by hand, a three-line program that
//! names the umbrella crate and the extra crates, and runs it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use toml_edit::{DocumentMut, InlineTable, Item, Table, value};

use crate::tree::{self, Metadata, Package, Tree};

/// A codec crate outside the tree.
#[derive(Debug)]
pub struct Guest {
    directory: PathBuf,
    package: Package,
    library: String,
}

impl Guest {
    /// Reads a crate's manifest.
    ///
    /// # Errors
    /// If the directory does not contain a library crate.
    pub fn read(directory: &Path) -> Result<Self> {
        let directory =
            directory.canonicalize().with_context(|| format!("--with {}: cannot open it", directory.display()))?;
        let manifest = directory.join("Cargo.toml");
        ensure!(manifest.is_file(), "--with {}: there is no Cargo.toml", directory.display());
        let package = tree::metadata(&manifest)?.packages.into_iter().find(|p| p.manifest_path == manifest);
        let package = package.with_context(|| format!("{} describes no package", manifest.display()))?;
        let library = package.targets.iter().find(|target| target.kind.iter().any(|kind| kind == "lib"));
        let library = library.with_context(|| format!("{} has no library", manifest.display()))?.name.replace('-', "_");
        Ok(Self { directory, package, library })
    }
}

/// The build profile of the host.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// The tree's development profile, so that libraries are shared with the tests, but without
    /// optimisation of the tree's crates, and without the commands that run models: it compiles
    /// soonest.
    Dev,
    /// The tree's release profile, for real use.
    Release,
}

/// The generated package of the program.
#[derive(Debug)]
pub struct Host {
    manifest: PathBuf,
    target: PathBuf,
    profile: Profile,
}

impl Host {
    /// Writes the package.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(tree: &Tree, guests: &[Guest], profile: Profile) -> Result<Self> {
        let metadata = tree.metadata()?;
        let names: Vec<_> = guests.iter().map(|guest| guest.package.name.as_str()).collect();
        let directory = metadata.target_directory.join("host").join(names.join("+"));
        fs::create_dir_all(directory.join("src"))?;
        let manifest = directory.join("Cargo.toml");
        let mut profiles = tree.profile()?;
        if matches!(profile, Profile::Dev) {
            profiles = profiles.map(|profiles| without_optimisation(&profiles, &metadata));
        }
        fs::write(&manifest, manifest_text(tree, &metadata, guests, profile, profiles))?;
        fs::write(directory.join("src/main.rs"), main_text(guests))?;
        // Uses the tree's versions of dependencies where possible.
        let lock = tree.path("Cargo.lock");
        if lock.exists() {
            fs::copy(lock, directory.join("Cargo.lock"))?;
        }
        Ok(Self { manifest, target: metadata.target_directory, profile })
    }

    /// The command that builds and runs the program with these arguments. It builds into the tree's
    /// target directory, so that cargo compiles only what is not there yet.
    pub fn program(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = tree::cargo("run", &self.manifest);
        command.env("CARGO_TARGET_DIR", &self.target);
        if matches!(self.profile, Profile::Release) {
            command.arg("--release");
        }
        command.args(["--quiet", "--"]).args(args);
        command
    }
}

/// Builds and runs the host, and returns the exit code of the program.
///
/// # Errors
/// If a directory does not contain a codec crate, or the host cannot be written.
pub fn run(tree: &Tree, with: &[PathBuf], args: &[String]) -> Result<ExitCode> {
    let guests = with.iter().map(|directory| Guest::read(directory)).collect::<Result<Vec<_>>>()?;
    let host = Host::write(tree, &guests, Profile::Release)?;
    eprintln!("host: {}", host.manifest.display());
    Ok(tree::run(&mut host.program(args))?.into())
}

/// The tree's development profile, without optimisation of the guest and the tree's crates.
fn without_optimisation(profiles: &Item, metadata: &Metadata) -> Item {
    let mut dev = Table::new();
    if let Some(packages) = profiles.get("dev").and_then(|dev| dev.get("package")) {
        dev["package"] = packages.clone();
    }
    for package in &metadata.packages {
        dev["package"][&package.name]["opt-level"] = value(0);
    }
    Item::Table(Table::from_iter([("dev", Item::Table(dev))]))
}

fn main_text(guests: &[Guest]) -> String {
    let guests: Vec<_> = guests.iter().map(|guest| format!("use {} as _;\n", guest.library)).collect();
    format!(
        "//! Written by `cargo xtask host`.
#![deny(unused_crate_dependencies)]

use codecs as _;
{}
fn main() -> std::process::ExitCode {{
    cli::main()
}}
",
        guests.concat()
    )
}

fn manifest_text(
    tree: &Tree,
    metadata: &Metadata,
    guests: &[Guest],
    profile: Profile,
    profiles: Option<Item>,
) -> String {
    let mut manifest = DocumentMut::new();
    manifest["package"] = table([("name", "netweight-host"), ("version", "0.0.0"), ("edition", "2024")]);
    manifest["package"]["publish"] = value(false);
    manifest["workspace"] = Item::Table(Table::new());
    let mut dependencies = Table::new();
    let mut cli = path(&tree.path("cli"));
    if matches!(profile, Profile::Dev) {
        cli["default-features"] = value(false);
    }
    dependencies.insert("netweight-cli", cli);
    dependencies.insert("netweight-codecs", path(&tree.path("codecs")));
    for guest in guests {
        dependencies.insert(&guest.package.name, path(&guest.directory));
    }
    manifest["dependencies"] = Item::Table(dependencies);
    if let Some(profiles) = profiles {
        manifest["profile"] = profiles;
    }
    let mut patch = Table::new();
    patch.set_implicit(true);
    patch.insert("crates-io", Item::Table(patches(metadata, guests, false)));
    manifest["patch"] = Item::Table(patch);
    manifest.to_string()
}

/// Patches for the tree's crates that guests name by version, including dev-dependencies if `tests`
/// is set. Other crates are left out, because cargo warns about an unused patch.
pub fn patches<'a>(metadata: &Metadata, guests: impl IntoIterator<Item = &'a Guest>, tests: bool) -> Table {
    let mut patches = Table::new();
    let dependencies = guests.into_iter().flat_map(|guest| &guest.package.dependencies);
    for dependency in dependencies.filter(|d| d.source.is_some() && (tests || d.kind.as_deref() != Some("dev"))) {
        let ours = metadata.packages.iter().find(|package| package.name == dependency.name);
        if let Some(directory) = ours.and_then(|package| package.manifest_path.parent()) {
            patches.insert(&dependency.name, path(directory));
        }
    }
    patches
}

fn table<const N: usize>(entries: [(&str, &str); N]) -> Item {
    Item::Table(entries.into_iter().map(|(key, text)| (key, value(text))).collect())
}

fn path(directory: &Path) -> Item {
    value(InlineTable::from_iter([("path", directory.display().to_string())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(dependencies: &str) -> Guest {
        let package = format!(
            r#"{{"name":"codec-x","manifest_path":"/far/x/Cargo.toml","targets":[],"dependencies":{dependencies}}}"#
        );
        Guest {
            directory: "/far/x".into(),
            package: serde_json::from_str(&package).unwrap(),
            library: "codec_x".to_owned(),
        }
    }

    fn ours() -> (Tree, Metadata) {
        let package = |name: &str, directory: &str| Package {
            name: name.to_owned(),
            manifest_path: format!("/tree/{directory}/Cargo.toml").into(),
            targets: Vec::new(),
            dependencies: Vec::new(),
        };
        let packages = vec![package("netweight-codec-api", "codec-api"), package("netweight-laws", "laws")];
        (Tree { root: "/tree".into() }, Metadata { packages, target_directory: "/tree/target".into() })
    }

    #[test]
    fn the_manifest_names_the_guest_and_patches_what_it_uses() {
        let (tree, metadata) = ours();
        let guest = guest(
            r#"[{"name":"netweight-codec-api","source":"registry","kind":null},
                {"name":"netweight-laws","source":"registry","kind":"dev"},
                {"name":"serde","source":"registry","kind":null}]"#,
        );
        let text = manifest_text(&tree, &metadata, std::slice::from_ref(&guest), Profile::Dev, None);
        let manifest: DocumentMut = text.parse().unwrap();
        assert!(manifest.contains_key("workspace"), "{text}");
        assert_eq!(manifest["dependencies"]["codec-x"]["path"].as_str(), Some("/far/x"));
        let patches = manifest["patch"]["crates-io"].as_table().unwrap();
        let named: Vec<_> = patches.iter().map(|(name, item)| (name, item["path"].as_str().unwrap())).collect();
        assert_eq!(named, [("netweight-codec-api", "/tree/codec-api")]);
        let with_tests = super::patches(&metadata, [&guest], true);
        assert_eq!(with_tests["netweight-laws"]["path"].as_str(), Some("/tree/laws"));
    }

    #[test]
    fn a_quick_host_shares_libraries_and_optimises_no_crate_of_the_tree() {
        let profiles: DocumentMut =
            "[profile.dev]\nopt-level = 2\n[profile.dev.package.\"*\"]\nopt-level = 1".parse().unwrap();
        let host = without_optimisation(&profiles["profile"], &ours().1);
        let dev = &host["dev"];
        assert!(dev.get("opt-level").is_none());
        assert_eq!(dev["package"]["*"]["opt-level"].as_integer(), Some(1));
        assert_eq!(dev["package"]["netweight-laws"]["opt-level"].as_integer(), Some(0));
    }

    #[test]
    fn the_program_names_every_crate() {
        let text = main_text(&[guest("[]")]);
        assert!(text.contains("use codecs as _;\nuse codec_x as _;\n\nfn main()"), "{text}");
    }

    #[test]
    fn a_directory_without_a_crate_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let message = Guest::read(directory.path()).unwrap_err().to_string();
        assert!(message.contains("there is no Cargo.toml"), "{message}");
        let message = Guest::read(&directory.path().join("absent")).unwrap_err().to_string();
        assert!(message.contains("absent: cannot open it"), "{message}");
    }
}
