//! The source of a plan: the files of a model, and whether they are still the same.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use codec_api::Registry;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::companions::Companions;
use crate::computed::Computed;
use crate::error::Error;
use crate::layout::directory;
use crate::model::Model;
use crate::packed::{Hash, MAX_HEADER};

/// The files of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// The directory that the names of the files are relative to.
    pub(crate) directory: PathBuf,
    pub(crate) files: Vec<SourceFile>,
    /// The index of a sharded model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<SourceFile>,
    /// Whether the only file has expressions, of which the tensors are computed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) computed: bool,
}

/// What a file was when the plan was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceFile {
    /// Its path relative to the directory.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Its last change, in nanoseconds since 1970.
    pub(crate) modified: u64,
    /// blake3 of its verbatim part: the header with the length before it, or the whole index.
    pub(crate) blake3: Hash,
}

impl Source {
    /// The files of an opened model. A shard counts whole, with the tensors that an index leaves
    /// out, since it shall come back as it is.
    ///
    /// # Errors
    /// [`Error::Unfit`] for files outside the directory, or with names that are not UTF-8.
    pub(crate) fn of(model: &Checkpoint) -> Result<Self, Error> {
        let first = model.index().or(model.files().first().map(PathBuf::as_path));
        let folder = directory(first.unwrap_or(Path::new("")));
        let folder = fs::canonicalize(folder).map_err(|e| Error::io(folder, e))?;
        let record = |path: &Path, verbatim: fn(&Path) -> Result<Vec<u8>, Error>| {
            let parent = fs::canonicalize(directory(path)).map_err(|e| Error::io(path, e))?;
            let name = path.file_name().map(|name| parent.join(name));
            let name = name.as_deref().and_then(|path| path.strip_prefix(&folder).ok()?.to_str());
            let Some(name) = name else {
                return Err(Error::unfit(path, "it lies outside the model's directory, or its name is not UTF-8"));
            };
            SourceFile::read(path, name.to_owned(), &verbatim(path)?)
        };
        let files = model.files().iter().map(|path| record(path, read_header)).collect::<Result<_, _>>()?;
        let index = model.index().map(|path| record(path, read_whole)).transpose()?;
        Ok(Self { directory: folder, files, index, computed: model.is_computed() })
    }

    /// The other files of the directory, for the directory `to`.
    ///
    /// # Errors
    /// Those of [`Companions::find`]; [`Error::Unfit`] for a name that is not UTF-8.
    pub(crate) fn companions(&self, to: &Path) -> Result<Companions, Error> {
        let model: Vec<_> = self.files.iter().chain(&self.index).map(|file| self.path(file)).collect();
        let found = Companions::find(&self.directory, to, &model)?;
        match found.names().iter().find(|name| name.to_str().is_none()) {
            Some(name) => Err(Error::unfit(&self.directory.join(name), "its name is not UTF-8")),
            None => Ok(found),
        }
    }

    /// The path of a file.
    pub(crate) fn path(&self, file: &SourceFile) -> PathBuf {
        self.directory.join(&file.name)
    }

    /// The header of every file, with the length before it; not what a computed model stands for.
    ///
    /// # Errors
    /// [`Error::Changed`] if a file is not as it was.
    pub(crate) fn headers(&self) -> Result<Vec<Vec<u8>>, Error> {
        self.files.iter().map(|file| self.read(file, read_header)).collect()
    }

    /// The bytes of the index.
    ///
    /// # Errors
    /// As [`Self::headers`].
    pub(crate) fn read_index(&self) -> Result<Option<Vec<u8>>, Error> {
        self.index.as_ref().map(|file| self.read(file, read_whole)).transpose()
    }

    fn read(&self, file: &SourceFile, verbatim: fn(&Path) -> Result<Vec<u8>, Error>) -> Result<Vec<u8>, Error> {
        let path = self.path(file);
        file.check_if_there(&path)?;
        let bytes = verbatim(&path)?;
        file.check(&path, &bytes)?;
        Ok(bytes)
    }

    /// Opens file number `file` alone, with all its tensors.
    ///
    /// # Errors
    /// As [`Self::headers`].
    pub(crate) fn open(&self, file: usize, registry: &Registry) -> Result<Model, Error> {
        let record = &self.files[file];
        let path = self.path(record);
        record.check_if_there(&path)?;
        let model = Checkpoint::open(&path)?;
        record.check(&path, &read_header(&path)?)?;
        if model.is_computed() {
            return Ok(Model::Computed(Computed::open(model, &[], registry)?));
        }
        Ok(Model::Dense(model))
    }

    /// Checks that file number `file` has not been written since the plan.
    pub(crate) fn check(&self, file: usize) -> Result<(), Error> {
        let path = self.path(&self.files[file]);
        self.files[file].check_metadata(&path, &fs::metadata(&path).map_err(|e| Error::io(&path, e))?)
    }
}

impl SourceFile {
    fn read(path: &Path, name: String, verbatim: &[u8]) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        Ok(Self { name, bytes: metadata.len(), modified: modified(&metadata), blake3: Hash::of(verbatim) })
    }

    fn check(&self, path: &Path, verbatim: &[u8]) -> Result<(), Error> {
        self.check_metadata(path, &fs::metadata(path).map_err(|e| Error::io(path, e))?)?;
        if Hash::of(verbatim) == self.blake3 {
            return Ok(());
        }
        Err(Error::Changed { path: path.to_owned(), what: "header is another one".to_owned() })
    }

    /// Compares length and time before the content is judged: a file that has changed since the
    /// plan may be damaged too, but that is not the cause. Readers report a file that is missing.
    fn check_if_there(&self, path: &Path) -> Result<(), Error> {
        fs::metadata(path).map_or(Ok(()), |now| self.check_metadata(path, &now))
    }

    fn check_metadata(&self, path: &Path, now: &Metadata) -> Result<(), Error> {
        let what = if now.len() != self.bytes {
            format!("length is {}, not {}", now.len(), self.bytes)
        } else if modified(now) != self.modified {
            "time of the last change is another one".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Changed { path: path.to_owned(), what })
    }
}

/// The time of the last change; 0 where the system knows none.
fn modified(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// The header of a safetensors file, with the length before it.
fn read_header(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(io)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io)?;
    let most = u64::from_le_bytes(length).min(MAX_HEADER as u64);
    let mut bytes = length.to_vec();
    file.take(most).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

fn read_whole(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|e| Error::io(path, e))
}
