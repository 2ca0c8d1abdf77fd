//! Finds the packed model at a path.

use std::fs;
use std::path::{Path, PathBuf};

use super::head::{Head, wrong};
use super::names::{self, PACKED_EXTENSION};
use crate::error::Error;
use crate::folder::entries;
use crate::index::Index;
use crate::layout::directory;

/// The packed file at this path, or a file of the set; and whether an index has named it.
pub(super) fn locate(path: &Path) -> Result<(PathBuf, bool), Error> {
    if let Some(index) = names::index_in_place_of(path) {
        return Ok((of_index(&index)?, true));
    }
    let is_directory = fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir();
    let model = if is_directory { in_directory(path)? } else { path.to_owned() };
    match names::packed_file_of_index(&model) {
        Some(_) => Ok((of_index(&model)?, true)),
        None => Ok((model, false)),
    }
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
    let (mut files, mut indexes) = (Vec::new(), Vec::new());
    for file in entries(path)? {
        if names::packed_file_of_index(&file).is_some() {
            indexes.push(file);
        } else if names::is_packed_name(&file) {
            files.push(file);
        }
    }
    let listed = |file: &PathBuf| {
        let whole = names::parse_shard(file).map(|(whole, ..)| whole);
        whole.is_some() && indexes.iter().any(|index| names::packed_file_of_index(index) == whole)
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
    let listed = entries(directory(whole)).unwrap_or_else(|error| {
        tracing::debug!(%error, "no shards are looked for");
        Vec::new()
    });
    // Beside a bare name, the paths listed begin with `./`, and that of `whole` does not.
    let paths = listed.iter().filter_map(|path| Some(whole.with_file_name(path.file_name()?)));
    paths.filter(|path| names::parse_shard(path).is_some_and(|(other, ..)| other == whole)).collect()
}

/// Those of them that are files of a set.
pub(crate) fn set_files_in_place_of(whole: &Path) -> Vec<PathBuf> {
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
