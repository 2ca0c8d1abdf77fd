//! The cache of the Hugging Face Hub.

use checkpoint::Error;

use crate::support::{Dir, assert_says, model, pair};

const REPOSITORY: &str = "models--org--a--b";
const ONE: &str = "1111111111111111111111111111111111111111";
const TWO: &str = "2222222222222222222222222222222222222222";

/// The folder of a repository with these snapshots. Each has one tensor, with its name.
fn cache(snapshots: &[&str]) -> Dir {
    let dir = Dir::new();
    for commit in snapshots {
        dir.write(&format!("{REPOSITORY}/snapshots/{commit}/model.safetensors"), model(&[pair(commit, [0.0; 2])]));
    }
    dir.write(&format!("{REPOSITORY}/blobs/0123"), "");
    dir
}

#[track_caller]
fn assert_opens(dir: &Dir, commit: &str, why: &str) {
    let read = checkpoint::Checkpoint::open(dir.path().join(REPOSITORY)).unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), [commit]);
    assert_eq!(read.notes(), [format!("opened the snapshot {commit} of the cache, {why}")]);
}

fn refused(dir: &Dir) -> Error {
    checkpoint::Checkpoint::open(dir.path().join(REPOSITORY)).unwrap_err()
}

#[test]
fn the_snapshot_of_the_branch_main_is_opened() {
    let dir = cache(&[ONE, TWO]);
    for commit in [ONE, TWO] {
        for text in [commit.to_owned(), format!("{commit}\n")] {
            dir.write(&format!("{REPOSITORY}/refs/main"), text);
            assert_opens(&dir, commit, "which refs/main names");
        }
    }
}

#[test]
fn the_only_snapshot_is_opened() {
    let dir = cache(&[ONE]);
    assert_opens(&dir, ONE, "the only one");
    dir.write(&format!("{REPOSITORY}/refs/main"), TWO);
    assert_opens(&dir, ONE, "the only one");
}

#[test]
fn several_snapshots_are_named() {
    let dir = cache(&[TWO, ONE]);
    // A commit that is not there, text that is none, a path, and a directory.
    for main in ["3333", "", "../snapshots", "\u{fffd}"] {
        dir.write(&format!("{REPOSITORY}/refs/main"), main);
        let error = refused(&dir);
        assert!(matches!(error, Error::Snapshots { count: 2, .. }), "{error:?}");
        assert_says(&error, &["snapshots` has 2 snapshots", &format!("({ONE}, {TWO})"), "open one by its own path"]);
    }
}

#[test]
fn a_cache_without_snapshots_is_to_be_downloaded() {
    let dir = cache(&[]);
    // Blobs alone are no cache.
    assert!(matches!(refused(&dir), Error::NoModel { .. }));
    dir.write(&format!("{REPOSITORY}/refs/main"), ONE);
    let error = refused(&dir);
    assert!(matches!(error, Error::NoSnapshot { .. }), "{error:?}");
    assert_says(&error, &[REPOSITORY, "without a snapshot", "run `hf download org/a--b`"]);
    std::fs::create_dir(dir.path().join(REPOSITORY).join("snapshots")).unwrap();
    assert!(matches!(refused(&dir), Error::NoSnapshot { .. }));
}

#[test]
fn the_root_of_the_cache_names_its_repositories() {
    assert_says(&cache(&[ONE]).open().unwrap_err(), &["holds no model", REPOSITORY, "give one of them"]);
}

#[test]
fn a_snapshot_without_model_is_named() {
    let dir = cache(&[]);
    dir.write(&format!("{REPOSITORY}/snapshots/{ONE}/config.json"), "{}");
    let error = refused(&dir);
    assert!(matches!(error, Error::NoModel { .. }));
    assert_says(&error, &[ONE, "holds no model"]);
}
