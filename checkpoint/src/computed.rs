//! Models whose tensors are computed when they are read.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use codec_api::util::zeros;
use codec_api::{CodecError, Progress, Registry, TensorSpec, inventory};

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::identity::FileIdentity;
use crate::model::{MAX_DEPTH, Model};
use crate::packed::{AtomicFile, Hash, place, safetensors_header};

/// Bytes that are computed at once where a whole tensor is read.
const WINDOW: usize = 4 << 20;

/// Computes the tensors of a model.
pub trait Compute: fmt::Debug + Send + Sync {
    /// Names, dtypes and shapes, in the order of a dense file.
    fn tensors(&self) -> &[(String, TensorSpec)];

    /// Computes rows of the matrix view, in the stored dtype.
    ///
    /// # Errors
    /// Those of what the tensor is computed of.
    fn rows(&self, tensor: usize, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error>;

    /// An earlier tensor that is the same expression.
    fn same_as(&self, tensor: usize) -> Option<usize>;

    /// The files that are read, without that of the expressions.
    fn files(&self) -> Vec<PathBuf>;

    /// Reads everything that the tensors are computed of, and returns what is not as it was.
    /// `progress` gets the number of weights that were read.
    fn verify(&self, progress: &dyn Progress) -> Vec<Error>;

    /// Number of weights and bytes that [`Self::verify`] reads.
    fn size(&self) -> (u64, u64);

    /// Gives back the memory of the pages that were read so far.
    fn release(&self);
}

/// The files of computed models on the way to a model.
#[derive(Clone, Copy, Debug)]
pub struct Above<'a>(&'a [FileIdentity]);

impl Above<'_> {
    /// Opens a model that tensors are computed of.
    ///
    /// # Errors
    /// Those of [`Model::open`]; [`Error::Unfit`] for a model that is computed of itself.
    pub fn open(&self, path: &Path, registry: &Registry) -> Result<Model, Error> {
        let model = Model::open_below(path, &[], self.0, registry)?;
        model.require_base()?;
        Ok(model)
    }
}

/// Opens computed models of one kind. A crate that has one submits it with `inventory::submit!`.
#[derive(Debug)]
pub struct Opener {
    /// The metadata string that marks a file of this kind.
    pub key: &'static str,
    /// Opens a file with this metadata string.
    pub open: Open,
}

/// Opens a file; the models that it is computed of through [`Above`].
pub type Open = fn(Checkpoint, Above<'_>, &Registry) -> Result<Box<dyn Compute>, Error>;

inventory::collect!(Opener);

/// Kinds of computed models, and what opens them.
const KINDS: [(&str, &str); 1] =
    [("netweight_graph", "the crate `netweight-graph`, which the feature `runtime` of `netweight-cli` contains")];

/// A model whose tensors are computed when they are read: a file with expressions of the tensors of
/// other models.
#[derive(Debug)]
pub struct Computed {
    path: PathBuf,
    by_name: HashMap<String, usize>,
    inner: Box<dyn Compute>,
}

impl Computed {
    /// The metadata key of a file with expressions.
    pub(crate) fn key(file: &Checkpoint) -> Option<&'static str> {
        let linked = inventory::iter::<Opener>.into_iter().map(|opener| opener.key);
        linked.chain(KINDS.map(|(key, _)| key)).find(|key| file.metadata().contains_key(*key))
    }

    /// Opens a file with expressions; `above` are the files that lead here.
    ///
    /// # Errors
    /// [`Error::Unfit`] if no crate of this program opens it, or it is computed of itself.
    pub(crate) fn open(file: Checkpoint, above: &[FileIdentity], registry: &Registry) -> Result<Self, Error> {
        let path = file.files()[0].clone();
        let key = Self::key(&file).unwrap_or_default();
        let Some(opener) = inventory::iter::<Opener>.into_iter().find(|opener| opener.key == key) else {
            let (_, by) = KINDS.iter().find(|(known, _)| *known == key).unwrap_or(&KINDS[0]);
            let reason = format!("it is a file of expressions, and this program was built without {by}");
            return Err(Error::unfit(&path, reason));
        };
        let identity = FileIdentity::of(&path).map_err(|e| Error::io(&path, e))?;
        if above.contains(&identity) || above.len() >= MAX_DEPTH {
            let reason = format!(
                "its tensors are computed of its own, or of {MAX_DEPTH} models one behind the other; write the one \
                 below as a dense model (`netweight decompress`)"
            );
            return Err(Error::unfit(&path, reason));
        }
        let inner = (opener.open)(file, Above(&[above, &[identity]].concat()), registry)?;
        let by_name = inner.tensors().iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        Ok(Self { path, by_name, inner })
    }

    /// The file with the expressions.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What computes the tensors.
    pub fn inner(&self) -> &dyn Compute {
        &*self.inner
    }

    fn find(&self, tensor: &str) -> Result<(usize, &TensorSpec), Error> {
        let found = self.by_name.get(tensor).map(|i| (*i, &self.inner.tensors()[*i].1));
        found.ok_or_else(|| Error::UnknownTensor {
            path: self.path.clone(),
            tensor: tensor.to_owned(),
            count: self.by_name.len(),
        })
    }

    /// Dtype and shape of a tensor.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`].
    pub fn spec(&self, tensor: &str) -> Result<&TensorSpec, Error> {
        Ok(self.find(tensor)?.1)
    }

    /// Computes rows of the matrix view of a tensor, in its dtype.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`]; [`Error::Chunk`] for rows that are not there; those of what the
    /// tensor is computed of.
    pub fn rows(&self, tensor: &str, rows: &Range<usize>) -> Result<Bytes, Error> {
        let (number, spec) = self.find(tensor)?;
        let fail = |error: CodecError| Error::Chunk {
            path: self.path.clone(),
            part: place(tensor, rows),
            error: Box::new(error),
        };
        let (all, columns) = spec.matrix();
        if rows.start > rows.end || rows.end > all {
            return Err(fail(CodecError::Usage(format!("a tensor {spec} has {all} rows"))));
        }
        let mut out: Vec<u8> = zeros(rows.len() * columns * spec.dtype().bitsize() / 8).map_err(fail)?;
        if !out.is_empty() {
            self.inner.rows(number, rows.clone(), &mut out)?;
        }
        Ok(out.into())
    }

    /// Computes a tensor by windows of rows, in their order.
    ///
    /// # Errors
    /// As [`Self::rows`], and those of `visit`.
    pub(crate) fn visit(&self, tensor: &str, mut visit: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let spec = self.spec(tensor)?;
        let (rows, columns) = spec.matrix();
        let step = (WINDOW / (columns * spec.dtype().bitsize() / 8).max(1)).max(1);
        for first in (0..rows).step_by(step) {
            visit(&self.rows(tensor, &(first..rows.min(first + step)))?)?;
        }
        Ok(())
    }

    /// blake3 of the bytes of a tensor.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub(crate) fn hash(&self, tensor: &str) -> Result<Hash, Error> {
        let mut hasher = blake3::Hasher::new();
        self.visit(tensor, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok(Hash(hasher.finalize().into()))
    }

    /// The bytes before the data of the dense file that this model stands for.
    ///
    /// # Errors
    /// [`Error::Unfit`] if the format does not allow so many tensors.
    fn header(&self) -> Result<Vec<u8>, Error> {
        let tensors = self.inner.tensors().iter().map(|(name, spec)| (&**name, spec));
        computed_header(tensors).map_err(|reason| Error::unfit(&self.path, reason))
    }

    /// Writes the dense file that this model stands for. `progress` gets the number of weights.
    ///
    /// # Errors
    /// As [`Self::rows`]; [`Error::Write`].
    pub fn write(&self, target: &Path, progress: &dyn Progress) -> Result<(), Error> {
        let mut file = AtomicFile::create(target)?;
        file.write(&self.header()?)?;
        for (name, spec) in self.inner.tensors() {
            self.visit(name, |bytes| {
                Error::check(progress)?;
                file.write(bytes)?;
                progress.tick((bytes.len() * 8 / spec.dtype().bitsize()) as u64);
                Ok(())
            })?;
        }
        file.commit()
    }
}

/// The bytes before the data of the dense file that a computed model with these tensors stands for.
///
/// # Errors
/// If the format does not allow so many tensors.
pub(crate) fn computed_header<'a>(tensors: impl Iterator<Item = (&'a str, &'a TensorSpec)>) -> Result<Vec<u8>, String> {
    safetensors_header(tensors, &[("format", "pt")].into())
}
