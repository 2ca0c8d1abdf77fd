//! Paths that lead to the same file, and paths that do not.

use std::path::Path;

use checkpoint::FileIdentity;

use crate::support::Dir;

fn same(a: impl AsRef<Path>, b: impl AsRef<Path>) -> bool {
    FileIdentity::of(a).unwrap() == FileIdentity::of(b).unwrap()
}

#[test]
fn spellings_of_one_path() {
    let dir = Dir::new();
    dir.write("sub/file", "");
    // The content is the same, the files are not.
    for name in ["sub/a", "sub/b", "sub/missing"] {
        if name != "sub/missing" {
            dir.write(name, "equal");
        }
        let plain = dir.path().join(name);
        for other in [format!("./{name}"), format!("sub/../{name}"), name.replace('/', "//")] {
            assert!(same(&plain, dir.path().join(&other)), "{other}");
        }
        assert!(!same(&plain, dir.path().join("sub/file")), "{name}");
    }
    assert!(!same(dir.path().join("sub/a"), dir.path().join("sub/b")));
    assert!(!same(dir.path().join("sub/missing"), dir.path().join("missing")));
    assert!(same(dir.path().join("sub"), dir.path().join("sub/")));
}

#[test]
fn a_bare_name_is_in_the_current_directory() {
    let here = std::env::current_dir().unwrap();
    for name in ["Cargo.toml", "missing.safetensors"] {
        assert!(same(name, here.join(name)), "{name}");
        assert!(same(name, format!("./{name}")), "{name}");
    }
}

#[test]
fn a_missing_directory_is_an_error() {
    let dir = Dir::new();
    for name in ["no/such/file", "no/.."] {
        assert_eq!(FileIdentity::of(dir.path().join(name)).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
}

#[cfg(unix)]
#[test]
fn links_are_their_targets() {
    use std::os::unix::fs::symlink;
    let dir = Dir::new();
    let at = |name: &str| dir.path().join(name);
    dir.write("sub/file", "");
    std::fs::hard_link(at("sub/file"), at("hard")).unwrap();
    symlink("sub/file", at("soft")).unwrap();
    symlink(at("soft"), at("twice")).unwrap();
    symlink("sub", at("directory")).unwrap();
    for name in ["hard", "soft", "twice", "directory/file"] {
        assert!(same(at("sub/file"), at(name)), "{name}");
    }
    // Writing to a link without target creates the target.
    symlink("directory/new", at("dangling")).unwrap();
    assert!(same(at("sub/new"), at("dangling")));
    assert!(same(at("sub/new"), at("directory/new")));
    assert!(!same(at("sub/new"), at("new")));
    symlink("circle", at("circle")).unwrap();
    assert!(FileIdentity::of(at("circle")).is_err());
}
