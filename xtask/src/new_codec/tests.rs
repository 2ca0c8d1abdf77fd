use std::fs;
use std::path::Path;

use super::*;

/// A copy of the files that `new-codec` edits.
fn copy_of_tree() -> (tempfile::TempDir, Tree) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    for file in ["Cargo.toml", "codecs/Cargo.toml", "codecs/src/lib.rs"] {
        let to = directory.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(here.join(file), to).unwrap();
    }
    let tree = Tree { root: directory.path().to_owned() };
    (directory, tree)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn names_are_checked() {
    for good in ["demo", "a", "vq2", "low-rank"] {
        assert_eq!(name(good).to_string(), good);
    }
    for bad in ["", "Demo", "2bit", "-x", "a_b", "a.b", "a b", "../x", "naïve"] {
        let message = Name::parse(bad).unwrap_err().to_string();
        assert!(message.contains("a letter first"), "{bad}: {message}");
    }
}

#[test]
fn the_crate_is_created_and_wired() {
    let (_directory, tree) = copy_of_tree();
    plan(&tree, &name("low-rank2")).unwrap().apply().unwrap();
    let read = |path: &str| fs::read_to_string(tree.path(path)).unwrap();

    let root: DocumentMut = read("Cargo.toml").parse().unwrap();
    assert_eq!(root["patch"]["crates-io"]["netweight-codec-api"]["path"].as_str(), Some("codec-api"));
    assert_eq!(root["patch"]["crates-io"]["netweight-laws"]["path"].as_str(), Some("laws"));

    let umbrella: DocumentMut = read("codecs/Cargo.toml").parse().unwrap();
    let dependency = &umbrella["dependencies"]["netweight-codec-low-rank2"];
    assert_eq!(dependency["path"].as_str(), Some("../codec-low-rank2"));
    assert_eq!(dependency["optional"].as_bool(), Some(true));
    assert_eq!(umbrella["features"]["low-rank2"][0].as_str(), Some("dep:netweight-codec-low-rank2"));
    let default = umbrella["features"]["default"].as_array().unwrap();
    assert_eq!(default.iter().last().unwrap().as_str(), Some("low-rank2"));

    let lines = read("codecs/src/lib.rs");
    assert!(lines.contains("#[cfg(feature = \"low-rank2\")]\npub use codec_low_rank2;\n"), "{lines}");
    for file in ["Cargo.toml", "src/lib.rs", "tests/conformance.rs"] {
        let text = read(&format!("codec-low-rank2/{file}"));
        assert!(!text.contains('@'), "{file} has an unfilled place:\n{text}");
        assert!(!text.contains("path =") && !text.contains("workspace"), "{file} names the tree:\n{text}");
    }
}

#[test]
fn every_edit_made_twice_is_made_once() {
    let (_directory, tree) = copy_of_tree();
    let read = |path: &str| fs::read_to_string(tree.path(path)).unwrap();
    let demo = name("demo");
    let root = add_patches(&read("Cargo.toml")).unwrap();
    assert_eq!(add_patches(&root).unwrap(), root);
    let manifest = add_feature(&read("codecs/Cargo.toml"), &demo).unwrap();
    assert_eq!(add_feature(&manifest, &demo).unwrap(), manifest);
    let source = add_reexport(&read("codecs/src/lib.rs"), &demo);
    assert_eq!(add_reexport(&source, &demo), source);
}

#[test]
fn edits_only_add_lines() {
    let (_directory, tree) = copy_of_tree();
    let text = fs::read_to_string(tree.path("Cargo.toml")).unwrap();
    let edited = add_patches(&text).unwrap();
    assert!(edited.starts_with(&text), "the root manifest was reformatted");
}

#[test]
fn a_taken_name_changes_nothing() {
    let (_directory, tree) = copy_of_tree();
    let before = fs::read_to_string(tree.path("codecs/Cargo.toml")).unwrap();
    fs::create_dir(tree.path("codec-demo")).unwrap();
    let message = plan(&tree, &name("demo")).unwrap_err().to_string();
    assert!(message.contains("codec-demo exists already"), "{message}");
    // Cargo gives the feature name `default` a special meaning.
    let message = format!("{:#}", plan(&tree, &name("default")).unwrap_err());
    assert!(message.contains("choose another name"), "{message}");
    assert_eq!(fs::read_to_string(tree.path("codecs/Cargo.toml")).unwrap(), before);
}

#[test]
fn reexports_stay_sorted() {
    let text = "//! Docs.\n\n#[cfg(feature = \"b\")]\npub use codec_b;\n\nfn other() {}\n";
    let b = "#[cfg(feature = \"b\")]\npub use codec_b;\n";
    let a = "#[cfg(feature = \"a\")]\npub use codec_a;\n";
    let c = "#[cfg(feature = \"c\")]\npub use codec_c;\n";
    assert_eq!(add_reexport(text, &name("a")), format!("//! Docs.\n\n{a}{b}\nfn other() {{}}\n"));
    assert_eq!(add_reexport(text, &name("c")), format!("//! Docs.\n\n{b}{c}\nfn other() {{}}\n"));
}
