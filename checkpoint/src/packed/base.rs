//! The base of a packed model: the model that tensors are stored relative to.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use codec_api::Registry;

use super::manifest::{BaseRecord, BaseTensorRecord, Hash};
use super::open::Packed;
use crate::error::Error;
use crate::identity::FileIdentity;
use crate::layout::directory;
use crate::model::{MAX_DEPTH, Model};

/// The base that the manifest names, and the model that takes its place.
pub(super) struct Base {
    record: BaseRecord,
    /// Why there is none, otherwise.
    model: Result<Attached, String>,
}

/// A model that has all tensors of the base.
struct Attached {
    path: PathBuf,
    model: Model,
    /// The hash of each base tensor, once it was needed.
    hashes: Vec<Mutex<Option<Hash>>>,
}

impl Base {
    pub(super) fn new(record: BaseRecord) -> Self {
        Self { record, model: Err("none was given".to_owned()) }
    }

    pub(super) fn tensor(&self, number: usize) -> Option<&BaseTensorRecord> {
        self.record.tensors.get(number)
    }

    pub(super) fn release(&self) {
        if let Ok(attached) = &self.model {
            attached.model.release();
        }
    }
}

impl Packed {
    /// Attaches the base: the model at the first of these paths, dense or packed. If that one has a
    /// base too, the next path is the base of the base, and so on. If the paths end before the
    /// chain does, the model at the place that the manifest remembers is taken, if it is still
    /// there and has the tensors of the base. Without any base, tensors that need none can be read.
    ///
    /// Each base tensor is compared with the hash in the manifest when it is needed for the first
    /// time.
    ///
    /// # Errors
    /// [`Error::Base`] if the model at a path lacks a tensor of the base; [`Error::Unfit`] for more
    /// paths than bases, for bases in a circle, and for a chain of more than eight packed models;
    /// those of [`Checkpoint::open`](crate::Checkpoint::open) and of [`Self::open`].
    pub fn with_bases<P: AsRef<Path>>(self, bases: &[P], registry: &Registry) -> Result<Self, Error> {
        let bases: Vec<PathBuf> = bases.iter().map(|path| path.as_ref().to_owned()).collect();
        self.attach(&bases, &[], registry)
    }

    /// As [`Self::with_bases`], for the base of other packed files, `above`.
    pub(crate) fn attach(
        mut self,
        bases: &[PathBuf],
        above: &[FileIdentity],
        registry: &Registry,
    ) -> Result<Self, Error> {
        let identity = FileIdentity::of(&self.path).map_err(|e| Error::io(&self.path, e))?;
        if above.contains(&identity) {
            return Err(Error::unfit(&self.path, "it is its own base, directly or through others; give another base"));
        }
        if above.len() >= MAX_DEPTH {
            let reason =
                format!("it is the base of {MAX_DEPTH} packed models in a chain; unpack it and pack them again");
            return Err(Error::unfit(&self.path, reason));
        }
        let above = [above, &[identity]].concat();
        match (&self.base, bases.split_first()) {
            (None, Some((other, _))) => return Err(Error::no_base(other, &self.path)),
            (None, None) => {}
            (Some(_), Some((path, rest))) => {
                let model = Model::open_below(path, rest, &above, registry)?;
                self.take_base(path.clone(), model)?;
            }
            (Some(_), None) => self.try_hint(&above, registry),
        }
        Ok(self)
    }

    /// Attaches the model where the base was, if it fits.
    fn try_hint(&mut self, above: &[FileIdentity], registry: &Registry) {
        let Some(path) = self.base_hint().filter(|path| path.exists()) else { return };
        let found = Model::open_below(&path, &[], above, registry);
        if let Err(error) = found.and_then(|model| self.take_base(path, model))
            && let Some(base) = &mut self.base
        {
            base.model = Err(error.to_string());
        }
    }

    /// Attaches a model if it has the tensors.
    fn take_base(&mut self, path: PathBuf, model: Model) -> Result<(), Error> {
        for entry in &self.entries {
            let Some((number, tensor)) = entry.base.and_then(|number| Some((number, self.base_tensor(number)?))) else {
                continue;
            };
            let found = match model.spec(&tensor.name) {
                Ok(spec) if *spec == entry.spec => continue,
                Ok(spec) => format!("the one in `{}` is {spec}, not {}", path.display(), entry.spec),
                Err(_) => format!("`{}` has no such tensor", path.display()),
            };
            return Err(self.base_error(number, found));
        }
        if let Some(base) = &mut self.base {
            let hashes = base.record.tensors.iter().map(|_| Mutex::new(None)).collect();
            base.model = Ok(Attached { path, model, hashes });
        }
        Ok(())
    }

    /// The name of the base, if the model has one.
    pub fn base_name(&self) -> Option<&str> {
        Some(&self.base.as_ref()?.record.name)
    }

    /// Where the base was when the model was packed, if the packed file has not been moved.
    pub fn base_hint(&self) -> Option<PathBuf> {
        let hint = self.base.as_ref()?.record.hint.as_ref()?;
        let path = directory(&self.path).join(hint);
        Some(fs::canonicalize(&path).unwrap_or(path))
    }

    /// The model that [`Self::with_bases`] has attached.
    pub fn base_path(&self) -> Option<&Path> {
        Some(&self.base.as_ref()?.model.as_ref().ok()?.path)
    }

    /// Checks that a base is attached if the model needs one, and the same for a packed base.
    ///
    /// # Errors
    /// [`Error::Base`].
    pub fn require_base(&self) -> Result<(), Error> {
        match &self.base {
            Some(base) if !base.record.tensors.is_empty() => match &base.model {
                Ok(attached) => attached.model.require_base(),
                Err(reason) => Err(self.base_error(0, reason.clone())),
            },
            _ => Ok(()),
        }
    }

    /// Compares all tensors of the base with their hashes.
    ///
    /// # Errors
    /// [`Error::Base`] for the first one that is another tensor.
    pub fn check_base(&self) -> Result<(), Error> {
        (0..self.base_records().len()).try_for_each(|number| self.checked_base(number).map(drop))
    }

    fn base_records(&self) -> &[BaseTensorRecord] {
        self.base.as_ref().map_or(&[], |base| &base.record.tensors)
    }

    pub(super) fn base_tensor(&self, number: usize) -> Option<&BaseTensorRecord> {
        self.base.as_ref()?.tensor(number)
    }

    /// The model that [`Self::with_bases`] has attached, and its own bases.
    pub(crate) fn base_paths(&self) -> Vec<PathBuf> {
        let Some(Attached { path, model, .. }) = self.attached() else { return Vec::new() };
        let mut paths = vec![path.clone()];
        if let Model::Packed(base) = model {
            paths.extend(base.base_paths());
        }
        paths
    }

    /// The files of the base and of its own bases.
    pub(crate) fn base_files(&self) -> Vec<PathBuf> {
        self.attached().map_or_else(Vec::new, |attached| attached.model.files())
    }

    /// The file of a base that is dense and one file.
    pub(super) fn dense_base(&self) -> Option<&Path> {
        match &self.attached()?.model {
            Model::Dense(model) if model.index().is_none() => model.files().first().map(PathBuf::as_path),
            _ => None,
        }
    }

    fn attached(&self) -> Option<&Attached> {
        self.base.as_ref()?.model.as_ref().ok()
    }

    /// The hash and the bytes of rows of a base tensor. Its hash is checked.
    pub(super) fn base_rows(&self, number: usize, rows: &Range<usize>) -> Result<(Hash, Bytes), Error> {
        let (model, tensor) = self.checked_base(number)?;
        Ok((tensor.blake3, model.rows(&tensor.name, rows)?))
    }

    /// A base tensor with the right hash, and the model that has it.
    fn checked_base(&self, number: usize) -> Result<(&Model, &BaseTensorRecord), Error> {
        self.require_base()?;
        let found = self.attached().and_then(|base| Some((base, base.hashes.get(number)?, self.base_tensor(number)?)));
        let Some((base, hash, tensor)) = found else {
            return Err(self.base_error(number, "none was given".to_owned()));
        };
        let known = *hash.lock().unwrap_or_else(PoisonError::into_inner);
        let found = if let Some(found) = known {
            found
        } else {
            // Without the lock: a computed tensor takes rayon's threads, which may ask for it too.
            let found = base.model.hash(&tensor.name)?;
            *hash.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            found
        };
        if found == tensor.blake3 {
            return Ok((&base.model, tensor));
        }
        Err(self.base_error(number, format!("the one in `{}` has blake3 {found}", base.path.display())))
    }

    /// What is wrong with the base, as the tensor of this number shows.
    fn base_error(&self, number: usize, reason: String) -> Error {
        let name = self.base_name().unwrap_or_default();
        let base = match self.base_hint() {
            Some(hint) => format!("`{name}` (once `{}`)", hint.display()),
            None => format!("`{name}`"),
        };
        let tensor = self.base_tensor(number).map(|tensor| format!("`{}` has blake3 {}", tensor.name, tensor.blake3));
        Error::Base { path: self.path.clone(), base, tensor: tensor.unwrap_or_default(), reason }
    }
}
