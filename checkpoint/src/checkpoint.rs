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
    /// Positions in `tensors`, sorted by name.
    by_name: Vec<usize>,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, or a directory in Hugging Face layout: the shards that its
    /// `model.safetensors.index.json` names, else its `model.safetensors`, else its only `.safetensors` file.
    /// Reads the headers and maps the rest.
    ///
    /// The files must not be changed or shortened while the checkpoint, or [`Bytes`] taken from it, is in use:
    /// values would change under the reader, and reading behind a new end kills the process.
    ///
    /// # Errors
    /// [`Error`] if there is no such model or a file of it is invalid, whatever its bytes. No tensor of a
    /// checkpoint that opened is missing, doubled or cut off.
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

    /// Refuses a name that two files have; within a file, the header's reader does.
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

    /// The tensors' names in file order: by file, then by offset.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|t| t.name.as_str())
    }

    /// Dtype and shape of a tensor.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`].
    pub fn spec(&self, name: &str) -> Result<&TensorSpec, Error> {
        Ok(&self.find(name)?.spec)
    }

    /// A tensor, in place.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let tensor = self.find(name)?;
        TensorView::new(tensor.spec.clone(), &tensor.data).map_err(|error| Error::Tensor {
            path: self.file_of(tensor).to_owned(),
            tensor: name.to_owned(),
            error,
        })
    }

    /// A tensor's spec and its stored bytes, at any alignment. The bytes are a slice of the file's map, which
    /// they keep alive.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`].
    pub fn bytes(&self, name: &str) -> Result<(TensorSpec, Bytes), Error> {
        let tensor = self.find(name)?;
        Ok((tensor.spec.clone(), tensor.data.clone()))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The safetensors files, in the order of their tensors.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The strings that the files carry beside their tensors (`__metadata__`). Where files differ, the first
    /// one that has the key counts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// blake3 of the model: of every tensor's name, dtype, shape and bytes, in the order of the names. How the
    /// tensors are spread over files, and the files' metadata, make no difference. Reads all bytes.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for tensor in self.by_name.iter().map(|&i| &self.tensors[i]) {
            // Counts go before what they count, and dtype and shape count the data: no two models give one stream.
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

    /// Sum of the tensors' bytes.
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
