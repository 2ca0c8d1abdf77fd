//! The cache of the Hugging Face Hub. The folder of a repository, `models--ORG--NAME`, has the
//! contents of files in `blobs`, the commits of branches in `refs`, and a directory of links for
//! each commit in `snapshots`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::folder::subdirectories;
use crate::layout::{NAMED, listed, name};

/// Largest file in `refs` in bytes; a commit has 40.
const MAX_REF: u64 = 256;

/// Whether a directory is the folder of a repository.
pub(crate) fn is_cache(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).is_dir();
    has("snapshots") || (has("blobs") && has("refs"))
}

/// The snapshot that stands for the repository, and a note that says so: the one that `refs/main`
/// names, else the only one. `None` if `dir` is not the folder of a repository.
pub(crate) fn snapshot(dir: &Path) -> Result<Option<(PathBuf, String)>, Error> {
    if !is_cache(dir) {
        return Ok(None);
    }
    let snapshots = dir.join("snapshots");
    let found = if snapshots.is_dir() { subdirectories(&snapshots)? } else { Vec::new() };
    let main = main(dir).and_then(|commit| found.iter().find(|path| name(path) == commit));
    let (snapshot, why) = match (main, found.as_slice()) {
        (Some(main), _) => (main, "which refs/main names"),
        (None, [only]) => (only, "the only one"),
        (None, []) => return Err(Error::NoSnapshot { dir: dir.to_owned(), remedy: remedy(dir) }),
        (None, found) => {
            let names: Vec<_> = found.iter().map(|path| name(path)).collect();
            let (count, names) = (names.len(), listed(&names, NAMED));
            return Err(Error::Snapshots { dir: snapshots, count, names });
        }
    };
    let note = format!("opened the snapshot {} of the cache, {why}", name(snapshot));
    Ok(Some((snapshot.clone(), note)))
}

/// The commit of the branch `main`.
fn main(dir: &Path) -> Option<String> {
    let mut commit = String::new();
    File::open(dir.join("refs/main")).ok()?.take(MAX_REF).read_to_string(&mut commit).ok()?;
    Some(commit.trim().to_owned())
}

/// The command that downloads the repository.
fn remedy(dir: &Path) -> String {
    match name(dir).strip_prefix("models--") {
        Some(repository) => format!("hf download {}", repository.replacen("--", "/", 1)),
        None => "hf download ORG/NAME".to_owned(),
    }
}
