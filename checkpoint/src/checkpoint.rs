//! The tensors of a model, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use codec_api::{TensorSpec, TensorView};

use crate::computed::Computed;
use crate::error::Error;
use crate::map::{Mapped, Meter, Pages};
use crate::packed::is_packed;
use crate::shard::{Shard, Tensor};
use crate::source::{Source, locate};

/// Bytes that a hash takes at a time.
const HASHED: usize = 1 << 24;

/// The tensors of a model, memory-mapped.
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<PathBuf>,
    index: Option<PathBuf>,
    /// The maps of `files`.
    maps: Vec<Mapped>,
    /// In file order: by file, then by offset.
    tensors: Vec<Tensor>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<usize>,
    metadata: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, the index of a sharded model (`model.safetensors.index.json`),
    /// or a directory in Hugging Face layout. It reads the headers and maps the rest.
    ///
    /// In a directory it opens `model.safetensors`, else the shards that
    /// `model.safetensors.index.json` lists, else the same of `diffusion_pytorch_model`, else the
    /// only index, else the only `.safetensors` file beside [`CALIBRATION`](crate::CALIBRATION). In
    /// a cache folder of the Hugging Face Hub (`models--ORG--NAME`) it opens the snapshot that
    /// `refs/main` names, else the only one. [`Self::notes`] tells what it did not open.
    ///
    /// An index decides which tensors belong to the model, and from which shard they come. Other
    /// tensors of its shards are left out, and noted.
    ///
    /// The files must not be changed or shortened while the checkpoint, or [`Bytes`] from it, are
    /// in use: the values would change, and reading beyond a new end kills the process.
    /// [`Self::tensor`], [`Self::bytes`] and [`Self::hash`] return an error if a file has become
    /// shorter. They cannot help if it is shortened after their check, because only a signal
    /// handler would notice. To write a new file and to rename it is safe: the map keeps the old
    /// one.
    ///
    /// # Errors
    /// [`Error`] if the path holds no model, or one of its files is invalid, whatever its bytes
    /// are. In an opened checkpoint no tensor is missing, duplicated or truncated.
    #[tracing::instrument(level = "debug", skip_all, fields(path = %path.as_ref().display()))]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let checkpoint = Self::read(path, locate(path)?)?;
        tracing::debug!(
            files = checkpoint.files.len(),
            tensors = checkpoint.len(),
            bytes = checkpoint.byte_len(),
            "opened"
        );
        Ok(checkpoint)
    }

    fn read(path: &Path, source: Source) -> Result<Self, Error> {
        let Source { files, index, mut notes } = source;
        let (mut maps, mut tensors, mut metadata) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (i, file) in files.iter().enumerate() {
            let shard = Shard::read(file, i)?;
            maps.push(shard.mapped);
            tensors.extend(shard.tensors);
            for (key, value) in shard.metadata {
                metadata.entry(key).or_insert(value);
            }
        }
        // Afterwards every name is unique: an index names one shard for each tensor, and a header
        // that repeats a name is refused.
        if let Some(index) = &index {
            notes.extend(index.select(&mut tensors, &files)?);
        }
        let index = index.map(|index| index.path);
        let mut by_name: Vec<usize> = (0..tensors.len()).collect();
        by_name.sort_by(|&a, &b| tensors[a].name.cmp(&tensors[b].name));
        Ok(Self { path: path.to_owned(), files, index, maps, tensors, by_name, metadata, notes })
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

    /// The tensor, if its file is still as long as its map.
    fn find_whole(&self, name: &str) -> Result<&Tensor, Error> {
        let tensor = self.find(name)?;
        self.maps[tensor.file].check(self.file_of(tensor))?;
        Ok(tensor)
    }

    /// The names of the tensors in file order: by file, then by offset.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|t| t.name.as_str())
    }

    /// Number of weights of all tensors.
    pub fn weights(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.spec.elements() as u64).sum()
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
    /// [`Error::UnknownTensor`] if no tensor has this name; [`Error::Shortened`] if its file has
    /// become shorter.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let tensor = self.find_whole(name)?;
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
    /// [`Error::UnknownTensor`] if no tensor has this name; [`Error::Shortened`] if its file has
    /// become shorter.
    pub fn bytes(&self, name: &str) -> Result<(TensorSpec, Bytes), Error> {
        let tensor = self.find_whole(name)?;
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

    /// The index of a sharded model.
    pub fn index(&self) -> Option<&Path> {
        self.index.as_deref()
    }

    /// The metadata strings (`__metadata__`) of all files. If files differ in a key, the first file
    /// that has the key counts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Whether this is a packed model ([`Packed`](crate::Packed)) or a shard of one. Its tensors
    /// here are the stored sections.
    pub fn is_packed(&self) -> bool {
        is_packed(&self.metadata)
    }

    /// Whether this is a file with expressions of other models' tensors
    /// ([`Model::Computed`](crate::Model)). Its tensors here are constants of the expressions.
    pub fn is_computed(&self) -> bool {
        self.files.len() == 1 && Computed::key(self).is_some()
    }

    /// Checks that the tensors are not those of a file with expressions.
    ///
    /// # Errors
    /// [`Error::Unopened`], with the command that writes a dense model.
    pub fn require_stored(&self) -> Result<(), Error> {
        if !self.is_computed() {
            return Ok(());
        }
        let path = self.path.display();
        Err(Error::Unopened(format!(
            "`{path}` is a model of expressions, and a stored one is needed here; `netweight decompress {path} -o DENSE` \
             writes it"
        )))
    }

    /// What was not opened, and why: other models in the directory, and tensors that the index
    /// leaves out. A note is a sentence without a full stop.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// blake3 of the model: of the name, dtype, shape and bytes of every tensor, in the order of
    /// the names. It does not depend on how the tensors are spread over files, nor on the metadata
    /// of the files. It reads all bytes.
    ///
    /// # Errors
    /// [`Error::Shortened`] if a file has become shorter.
    pub fn hash(&self) -> Result<[u8; 32], Error> {
        let (mut hasher, meter) = (blake3::Hasher::new(), Meter::default());
        for tensor in self.by_name.iter().map(|&i| &self.tensors[i]) {
            self.maps[tensor.file].check(self.file_of(tensor))?;
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
            for bytes in tensor.data.chunks(HASHED) {
                hasher.update(bytes);
                meter.add(bytes.len() as u64, || self.release());
            }
        }
        Ok(hasher.finalize().into())
    }

    pub(crate) fn pages(&self) -> Pages {
        Pages::new(self.maps.iter())
    }

    /// Gives back the memory of the pages that were read so far.
    pub fn release(&self) {
        self.maps.iter().for_each(Mapped::release);
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
