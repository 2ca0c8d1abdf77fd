//! Finds the packed model at a path.

use std::fs;
use std::path::{Path, PathBuf};

use super::head::{Head, wrong};
use super::names::{self, PACKED_EXTENSION};
use crate::error::Error;
use crate::index::Index;
use crate::layout::directory;

/// The packed file at this path, or a file of the set.
pub(super) fn locate(path: &Path) -> Result<PathBuf, Error> {
    if let Some(index) = names::stands_in(path) {
        return of_index(&index);
    }
    if fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir() {
        let model = in_directory(path)?;
        return if names::whole_of(&model).is_some() { of_index(&model) } else { Ok(model) };
    }
    if names::whole_of(path).is_some() { of_index(path) } else { Ok(path.to_owned()) }
}

/// The first shard of the index that exists; it tells which others there are.
fn of_index(path: &Path) -> Result<PathBuf, Error> {
    let index = Index::read(path.to_owned())?;
    let first = index.paths().into_iter().find(|shard| shard.exists()).cloned();
    match first {
        Some(first) => Ok(first),
        None => index.files().and(Err(wrong(path, "it names no shard"))),
    }
}

/// The only packed file or index of a directory.
fn in_directory(path: &Path) -> Result<PathBuf, Error> {
    let io = |e| Error::io(path, e);
    let (mut files, mut indexes) = (Vec::new(), Vec::new());
    for file in fs::read_dir(path).map_err(io)? {
        let file = file.map_err(io)?.path();
        if names::whole_of(&file).is_some() {
            indexes.push(file);
        } else if file.to_str().is_some_and(|name| name.ends_with(PACKED_EXTENSION)) {
            files.push(file);
        }
    }
    let listed = |file: &PathBuf| {
        let whole = names::parse_shard(file).map(|(whole, ..)| whole);
        whole.is_some() && indexes.iter().any(|index| names::whole_of(index) == whole)
    };
    files.retain(|file| !listed(file));
    let count = files.len() + indexes.len();
    match files.pop().or(indexes.pop()) {
        Some(only) if count == 1 => Ok(only),
        None => Err(wrong(path, format!("no file in it is named `*{PACKED_EXTENSION}`"))),
        Some(_) => Err(wrong(path, format!("{count} files in it are named `*{PACKED_EXTENSION}`; give one of them"))),
    }
}

/// The files beside the packed file `whole` with names of shards that take its place, sorted.
pub(crate) fn named_like_shards(whole: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory(whole)).into_iter().flatten().flatten();
    let paths = entries.map(|entry| whole.with_file_name(entry.file_name()));
    let mut paths: Vec<_> =
        paths.filter(|path| names::parse_shard(path).is_some_and(|(other, ..)| other == whole)).collect();
    paths.sort();
    paths
}

/// Those of them that are files of a set.
pub(crate) fn shards_at(whole: &Path) -> Vec<PathBuf> {
    let mut paths = named_like_shards(whole);
    paths.retain(|path| Head::read(path).is_ok_and(|head| head.is_of_set()));
    paths
}

/// Whether this is a packed model in one file.
pub(crate) fn is_packed_file(path: &Path) -> bool {
    Head::read(path).is_ok_and(|head| head.manifest().is_ok())
}

/// Whether this is the index of a set in the place of `whole`.
pub(crate) fn is_index_of(index: &Path, whole: &Path) -> bool {
    let belongs = |path: &PathBuf| names::parse_shard(path).is_some_and(|(other, ..)| other == whole);
    Index::read(index.to_owned()).is_ok_and(|index| index.paths().into_iter().all(belongs))
}
