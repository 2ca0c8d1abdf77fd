//! The files beside a model are copied.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::Companions;

use crate::support::{Dir, assert_says};

fn names(paths: &[PathBuf]) -> BTreeSet<&str> {
    paths.iter().map(|path| path.to_str().unwrap()).collect()
}

#[test]
fn files_are_copied_except_the_model_and_hidden_directories() {
    let dir = Dir::new();
    let model = dir.write("in/model.safetensors", "weights");
    for name in ["config.json", "sub/deep/vocab.txt", ".gitattributes", ".git/HEAD"] {
        dir.write(&format!("in/{name}"), name);
    }
    dir.write("out/config.json", "older");
    let (from, to) = (dir.path().join("in"), dir.path().join("out"));
    let found = Companions::find(&from, &to, std::slice::from_ref(&model)).unwrap();
    assert_eq!(fs::read(to.join("config.json")).unwrap(), b"older", "nothing is written yet");
    found.copy().unwrap();
    assert_eq!(names(found.names()), [".gitattributes", "config.json", "sub/deep/vocab.txt"].into());
    for path in found.names() {
        assert_eq!(fs::read(to.join(path)).unwrap(), fs::read(from.join(path)).unwrap());
    }
    assert!(!to.join("model.safetensors").exists() && !to.join(".git").exists());
}

#[cfg(unix)]
#[test]
fn links_to_files_become_files_and_links_to_directories_are_left_out() {
    use std::os::unix::fs::symlink;

    let dir = Dir::new();
    // As in the Hugging Face cache: a snapshot of links into a folder of blobs.
    dir.write("blobs/1", "config");
    let model = dir.write("blobs/2", "weights");
    let from = dir.path().join("snapshot");
    fs::create_dir(&from).unwrap();
    symlink("../blobs/1", from.join("config.json")).unwrap();
    symlink("../blobs/2", from.join("model.safetensors")).unwrap();
    symlink("../blobs", from.join("blobs")).unwrap();
    symlink("nowhere", from.join("dangling")).unwrap();
    let to = dir.path().join("out");
    let found = Companions::find(&from, &to, &[model]).unwrap();
    found.copy().unwrap();
    assert_eq!(names(found.names()), ["config.json"].into());
    assert!(fs::symlink_metadata(to.join("config.json")).unwrap().is_file());
    assert_eq!(fs::read(to.join("config.json")).unwrap(), b"config");
}

#[test]
fn a_directory_is_not_copied_into_itself() {
    let dir = Dir::new();
    dir.write("in/config.json", "x");
    let (outer, inner) = (dir.path().to_owned(), dir.path().join("in"));
    let refused = |from: &Path, to: &Path| Companions::find(from, to, &[]).unwrap_err();
    assert_says(&refused(&inner, &inner), &["inside each other"]);
    assert_says(&refused(&inner, &outer), &["inside each other"]);
    assert_says(&refused(&inner, &inner.join("new/packed")), &["new/packed", "inside each other"]);
    assert!(!inner.join("new").exists(), "nothing is created");
}
