//! The tensors of a model, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use codec_api::{TensorSpec, TensorView};

use crate::error::Error;
use crate::shard::{Shard, Tensor};
use crate::source::{Source, locate};

/// The tensors of a model, memory-mapped.
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<PathBuf>,
    /// In file order: by file, then by offset.
    tensors: Vec<Tensor>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<usize>,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, or a directory in Hugging Face layout. In a directory it opens
    /// the shards that `model.safetensors.index.json` lists, else `model.safetensors`, else the
    /// only `.safetensors` file beside [`CALIBRATION`](crate::CALIBRATION). It reads the headers
    /// and maps the rest.
    ///
    /// The files must not be changed or shortened while the checkpoint, or [`Bytes`] from it, are
    /// in use: the values would change, and reading beyond a new end kills the process.
    ///
    /// # Errors
    /// [`Error`] if the path holds no model, or one of its files is invalid, whatever its bytes
    /// are. In an opened checkpoint no tensor is missing, duplicated or truncated.
    #[tracing::instrument(level = "debug", skip_all, fields(path = %path.as_ref().display()))]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let checkpoint = match locate(path)? {
            Source::File(file) => Self::read(path, vec![file])?,
            Source::Shards(index) => {
                let checkpoint = Self::read(path, index.files()?)?;
                let found = checkpoint.tensors.iter().map(|t| (t.name.as_str(), checkpoint.file_of(t)));
                index.check(&found.collect())?;
                checkpoint
            }
        };
        tracing::debug!(
            files = checkpoint.files.len(),
            tensors = checkpoint.len(),
            bytes = checkpoint.byte_len(),
            "opened"
        );
        Ok(checkpoint)
    }

    fn read(path: &Path, files: Vec<PathBuf>) -> Result<Self, Error> {
        let (mut tensors, mut metadata) = (Vec::new(), BTreeMap::new());
        for (i, file) in files.iter().enumerate() {
            let shard = Shard::read(file, i)?;
            tensors.extend(shard.tensors);
            for (key, value) in shard.metadata {
                metadata.entry(key).or_insert(value);
            }
        }
        let mut by_name: Vec<usize> = (0..tensors.len()).collect();
        by_name.sort_by(|&a, &b| tensors[a].name.cmp(&tensors[b].name));
        let checkpoint = Self { path: path.to_owned(), files, tensors, by_name, metadata };
        checkpoint.check_unique()?;
        Ok(checkpoint)
    }

    /// Refuses a tensor name that occurs in two files. Within one file the header reader does that.
    fn check_unique(&self) -> Result<(), Error> {
        for pair in self.by_name.windows(2) {
            let (a, b) = (&self.tensors[pair[0]], &self.tensors[pair[1]]);
            if a.name == b.name {
                let (first, second) = (self.file_of(a).to_owned(), self.file_of(b).to_owned());
                return Err(Error::DuplicateTensor { first, second, tensor: a.name.clone() });
            }
        }
        Ok(())
    }

    fn file_of(&self, tensor: &Tensor) -> &Path {
        &self.files[tensor.file]
    }

    fn find(&self, name: &str) -> Result<&Tensor, Error> {
        match self.by_name.binary_search_by(|&i| self.tensors[i].name.as_str().cmp(name)) {
            Ok(at) => Ok(&self.tensors[self.by_name[at]]),
            Err(_) => Err(Error::UnknownTensor { path: self.path.clone(), tensor: name.to_owned(), count: self.len() }),
        }
    }

    /// The names of the tensors in file order: by file, then by offset.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|t| t.name.as_str())
    }

    /// Dtype and shape of the tensor `name`.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] if no tensor has this name.
    pub fn spec(&self, name: &str) -> Result<&TensorSpec, Error> {
        Ok(&self.find(name)?.spec)
    }

    /// The tensor `name`; its bytes are not copied.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] if no tensor has this name.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let tensor = self.find(name)?;
        TensorView::new(tensor.spec.clone(), &tensor.data).map_err(|error| Error::Tensor {
            path: self.file_of(tensor).to_owned(),
            tensor: name.to_owned(),
            error,
        })
    }

    /// Spec and stored bytes of the tensor `name`, at any alignment. The bytes are a slice of the
    /// memory map and keep it alive.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] if no tensor has this name.
    pub fn bytes(&self, name: &str) -> Result<(TensorSpec, Bytes), Error> {
        let tensor = self.find(name)?;
        Ok((tensor.spec.clone(), tensor.data.clone()))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether the checkpoint has no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The safetensors files, in the order of their tensors.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The metadata strings (`__metadata__`) of all files. If files differ in a key, the first file
    /// that has the key counts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// blake3 of the model: of the name, dtype, shape and bytes of every tensor, in the order of
    /// the names. It does not depend on how the tensors are spread over files, nor on the metadata
    /// of the files. Reads all bytes.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for tensor in self.by_name.iter().map(|&i| &self.tensors[i]) {
            // Every variable-length part follows its length, and dtype and shape determine the data
            // length, so no two models give the same stream.
            let number = |n: usize| (n as u64).to_le_bytes();
            let (dtype, shape) = (tensor.spec.dtype().to_string(), tensor.spec.shape());
            hasher.update(&number(tensor.name.len())).update(tensor.name.as_bytes());
            hasher.update(&number(dtype.len())).update(dtype.as_bytes());
            hasher.update(&number(shape.len()));
            for &extent in shape {
                hasher.update(&number(extent));
            }
            hasher.update(&tensor.data);
        }
        hasher.finalize().into()
    }

    /// Total size of the tensors in bytes.
    fn byte_len(&self) -> u64 {
        self.tensors.iter().map(|t| t.data.len() as u64).sum()
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("files", &self.files)
            .field("tensors", &self.len())
            .field("bytes", &self.byte_len())
            .finish_non_exhaustive()
    }
}
