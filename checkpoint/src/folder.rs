//! Chooses the model of a directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::hub;
use crate::index::Index;
use crate::layout::{CALIBRATION, INDEX, MODELS, NAMED, listed, name, whole_name};
use crate::source::Source;

const ONE_INDEX: &str = "open one by its own path";
const ONE_FILE: &str = "open one by its own path, or add the index if they are shards of one model";

/// The indexes and `.safetensors` files of a directory, sorted. Links to nothing are among them, so
/// that an error can name them.
pub(crate) struct Folder {
    dir: PathBuf,
    indexes: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// A model of a directory.
enum Model<'a> {
    /// In one file, and perhaps the index of its shards.
    Whole(&'a Path, Option<&'a Path>),
    /// In the shards of this index.
    Sharded(&'a Path),
}

impl<'a> Model<'a> {
    fn new(whole: Option<&'a Path>, index: Option<&'a Path>) -> Option<Self> {
        match (whole, index) {
            (Some(whole), index) => Some(Self::Whole(whole, index)),
            (None, Some(index)) => Some(Self::Sharded(index)),
            (None, None) => None,
        }
    }

    fn index(&self) -> Option<&Path> {
        match self {
            Self::Whole(_, index) => *index,
            Self::Sharded(index) => Some(index),
        }
    }
}

impl Folder {
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let mut folder = Self { dir: dir.to_owned(), indexes: Vec::new(), files: Vec::new() };
        for path in entries(dir)? {
            let is_model = path.extension().is_some_and(|e| e == "safetensors") && !path.ends_with(CALIBRATION);
            let list = match whole_name(&path) {
                Some(_) => &mut folder.indexes,
                None if is_model => &mut folder.files,
                None => continue,
            };
            if !path.is_dir() {
                list.push(path);
            }
        }
        Ok(folder)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.indexes.is_empty() && self.files.is_empty()
    }

    /// The model of the directory, with notes about the files that are not part of it.
    pub(crate) fn source(&self) -> Result<Source, Error> {
        let model = self.choose()?;
        let mut source = match model {
            Model::Sharded(index) => Source::shards(Index::read(index.to_owned())?)?,
            Model::Whole(whole, None) => Source::file(whole.to_owned()),
            Model::Whole(whole, Some(index)) => whole_or_shards(whole, index)?,
        };
        let indexes = self.indexes.iter().filter(|path| Some(path.as_path()) != model.index());
        let others = indexes.chain(self.files.iter().filter(|path| !source.files.contains(path)));
        let others: Vec<_> = others.map(|path| name(path)).collect();
        if !others.is_empty() {
            let names = listed(&others, NAMED);
            source.notes.push(format!("not opened: {names} in the same directory; open one by its own path"));
        }
        Ok(source)
    }

    /// A model of a usual name, else the only index, else the only file.
    fn choose(&self) -> Result<Model<'_>, Error> {
        let usual =
            |whole: &&str| Model::new(find(&self.files, whole), find(&self.indexes, &format!("{whole}{INDEX}")));
        if let Some(model) = MODELS.iter().find_map(usual) {
            return Ok(model);
        }
        match (self.indexes.as_slice(), self.files.as_slice()) {
            ([], []) => Err(self.no_model()),
            ([], [file]) => Ok(Model::Whole(file, None)),
            ([], files) => Err(self.ambiguous(".safetensors files", files, ONE_FILE)),
            ([index], files) => {
                let whole = whole_name(index).and_then(|whole| find(files, &whole));
                Ok(Model::new(whole, Some(index)).unwrap_or(Model::Sharded(index)))
            }
            (indexes, _) => Err(self.ambiguous("indexes", indexes, ONE_INDEX)),
        }
    }

    fn ambiguous(&self, what: &'static str, paths: &[PathBuf], remedy: &'static str) -> Error {
        let names: Vec<_> = paths.iter().map(|path| name(path)).collect();
        Error::Ambiguous { dir: self.dir.clone(), what, count: names.len(), names: listed(&names, NAMED), remedy }
    }

    fn no_model(&self) -> Error {
        let holds = |dir: &PathBuf| hub::is_cache(dir) || Self::read(dir).is_ok_and(|folder| !folder.is_empty());
        let dirs = subdirectories(&self.dir).unwrap_or_default();
        // One more than a message names, so that it can say that there are more.
        let dirs: Vec<_> = dirs.iter().filter(|dir| holds(dir)).take(NAMED + 1).map(|dir| name(dir)).collect();
        let remedy = if dirs.is_empty() {
            "give the directory that has them (other formats are not read: convert them to safetensors)".to_owned()
        } else {
            format!("models are in these directories below it: {}; give one of them", listed(&dirs, NAMED))
        };
        Error::NoModel { dir: self.dir.clone(), remedy }
    }
}

/// The whole file goes before the index, as in transformers, unless the index takes tensors from
/// that file.
fn whole_or_shards(whole: &Path, index: &Path) -> Result<Source, Error> {
    match Index::read(index.to_owned()) {
        Ok(index) if index.lists(whole) => Source::shards(index),
        _ => {
            let mut source = Source::file(whole.to_owned());
            source.notes.push(format!(
                "opened {}, not the shards of {}: a whole model goes before an index, as in transformers; \
                 open the index by its own path for the shards",
                name(whole),
                name(index)
            ));
            Ok(source)
        }
    }
}

fn find<'a>(paths: &'a [PathBuf], name: &str) -> Option<&'a Path> {
    paths.iter().map(PathBuf::as_path).find(|path| path.ends_with(name))
}

/// The paths of the entries of a directory, sorted.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let paths: Result<Vec<_>, _> = fs::read_dir(dir).and_then(|entries| entries.map(|e| Ok(e?.path())).collect());
    let mut paths = paths.map_err(|e| Error::io(dir, e))?;
    paths.sort();
    Ok(paths)
}

/// The directories in a directory, sorted.
pub(crate) fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    Ok(entries(dir)?.into_iter().filter(|path| path.is_dir()).collect())
}
