//! Finds the files of the model at a path.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::folder::Folder;
use crate::hub;
use crate::index::Index;
use crate::layout;
use crate::packed::index_in_place_of;

/// Location of the tensors.
pub(crate) struct Source {
    /// The files to read. They may be missing or invalid, except that the shards of an index exist.
    pub(crate) files: Vec<PathBuf>,
    /// If there is one, it decides which tensors belong to the model.
    pub(crate) index: Option<Index>,
    /// What was not opened, and why.
    pub(crate) notes: Vec<String>,
}

impl Source {
    pub(crate) fn file(file: PathBuf) -> Self {
        Self { files: vec![file], index: None, notes: Vec::new() }
    }

    pub(crate) fn shards(index: Index) -> Result<Self, Error> {
        Ok(Self { files: index.files()?, index: Some(index), notes: Vec::new() })
    }
}

/// A file is returned unchecked, unless it is named like an index. In a directory, [`Folder`]
/// chooses; shards stand for the packed file in whose place they are; a cache folder of the Hugging
/// Face Hub stands for one of its snapshots.
pub(crate) fn locate(path: &Path) -> Result<Source, Error> {
    if let Some(index) = index_in_place_of(path) {
        return Source::shards(Index::read(index)?);
    }
    if !fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir() {
        return match layout::whole_name(path) {
            Some(_) => Source::shards(Index::read(path.to_owned())?),
            None => Ok(Source::file(path.to_owned())),
        };
    }
    let folder = Folder::read(path)?;
    if folder.is_empty()
        && let Some((snapshot, note)) = hub::snapshot(path)?
    {
        let mut source = Folder::read(&snapshot)?.source()?;
        source.notes.push(note);
        return Ok(source);
    }
    folder.source()
}
