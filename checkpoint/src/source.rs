//! Finds the files of the model at a path.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::index::Index;
use crate::layout::{CALIBRATION, INDEX, MODEL};

/// Number of files that an error message names.
const NAMED: usize = 4;

/// Location of the tensors.
pub(crate) enum Source {
    /// In one file.
    File(PathBuf),
    /// In the shards that an index lists.
    Shards(Index),
}

/// A file is returned unchecked. In a directory: the index, else `model.safetensors`, else the only
/// `.safetensors` file beside [`CALIBRATION`].
pub(crate) fn locate(path: &Path) -> Result<Source, Error> {
    if !fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir() {
        return Ok(Source::File(path.to_owned()));
    }
    let (index, model) = (path.join(INDEX), path.join(MODEL));
    if index.is_file() {
        Ok(Source::Shards(Index::read(index)?))
    } else if model.is_file() {
        Ok(Source::File(model))
    } else {
        only_file(path).map(Source::File)
    }
}

fn only_file(dir: &Path) -> Result<PathBuf, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let file = entry.map_err(|e| Error::io(dir, e))?.path();
        let is_model = file.extension().is_some_and(|e| e == "safetensors") && !file.ends_with(CALIBRATION);
        if is_model && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    match files.as_slice() {
        [] => Err(Error::NoModel { dir: dir.to_owned() }),
        [file] => Ok(file.clone()),
        _ => Err(Error::Ambiguous { dir: dir.to_owned(), count: files.len(), names: first_names(&files) }),
    }
}

fn first_names(files: &[PathBuf]) -> String {
    let mut names: Vec<_> =
        files.iter().take(NAMED).filter_map(|file| Some(file.file_name()?.to_string_lossy())).collect();
    if files.len() > NAMED {
        names.push("…".into());
    }
    names.join(", ")
}
