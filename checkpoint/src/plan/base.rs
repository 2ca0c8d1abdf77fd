//! The base of a plan: which tensor is stored relative to which, and whether the base is still the
//! same.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use codec_api::{Registry, TensorSpec};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::identity::FileIdentity;
use crate::layout::name;
use crate::map::Meter;
use crate::model::Model;
use crate::packed::{BaseTensorRecord, Hash};

/// The model that tensors are stored relative to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlannedBase {
    /// Its name, for people.
    pub(super) name: String,
    /// Its files: those of a dense model, or the packed one.
    pub(super) source: Source,
    /// The bases of a packed base, the nearest first, where its manifest does not find them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) bases: Vec<PathBuf>,
    /// The tensors that are bases.
    pub(super) tensors: Vec<BaseTensorRecord>,
}

impl PlannedBase {
    /// The model at the first of these paths; the others are its own bases. It has no tensors yet.
    pub(super) fn new(path: &Path, bases: &[PathBuf]) -> Result<Self, Error> {
        let io = |path: &Path, error| Error::io(path, error);
        let model = Checkpoint::open(path)?;
        let whole = fs::canonicalize(path).map_err(|e| io(path, e))?;
        let bases = bases.iter().map(|path| fs::canonicalize(path).map_err(|e| io(path, e)));
        Ok(Self {
            name: name(&whole),
            source: Source::of(&model)?,
            bases: bases.collect::<Result<_, _>>()?,
            tensors: Vec::new(),
        })
    }

    /// Its file or its index.
    pub(super) fn path(&self) -> PathBuf {
        let file = self.source.index.as_ref().or(self.source.files.first());
        file.map_or_else(|| self.source.directory.clone(), |file| self.source.path(file))
    }

    /// The base, then its own bases.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        [&[self.path()], &*self.bases].concat()
    }

    /// Opens the model for a packed file that will be made from `source`.
    ///
    /// # Errors
    /// [`Error::Changed`] if a file is not as it was; those of [`Model::open_below`] and
    /// [`Model::require_base`].
    pub(super) fn open(&self, source: &Source, registry: &Registry) -> Result<Model, Error> {
        self.source.headers()?;
        self.source.read_index()?;
        let first = source.files.first().map(|file| source.path(file));
        let identity = |path: PathBuf| FileIdentity::of(&path).map_err(|e| Error::io(&path, e));
        let above = first.into_iter().map(identity).collect::<Result<Vec<_>, _>>()?;
        let model = Model::open_below(&self.path(), &self.bases, &above, registry)?;
        model.require_base()?;
        Ok(model)
    }

    /// Checks that no file has been written since the plan.
    pub(super) fn check(&self) -> Result<(), Error> {
        (0..self.source.files.len()).try_for_each(|file| self.source.check(file))
    }

    /// The path from a folder to the base; `None` if it is not UTF-8, or on another drive.
    pub(super) fn hint(&self, folder: &Path) -> Option<String> {
        let (folder, path) = (fs::canonicalize(folder).ok()?, fs::canonicalize(self.path()).ok()?);
        let common = folder.components().zip(path.components()).take_while(|(a, b)| a == b).count();
        if common == 0 {
            return None;
        }
        let up = folder.components().skip(common).map(|_| "..");
        let down = path.components().skip(common).map(|part| part.as_os_str().to_str());
        let parts: Option<Vec<&str>> = up.map(Some).chain(down).collect();
        Some(parts?.join("/"))
    }
}

/// Finds the base tensors of a source.
pub(super) struct Finder {
    tensors: Vec<Candidate>,
    by_name: HashMap<String, usize>,
    /// By spec and content.
    by_content: HashMap<(String, Hash), usize>,
}

struct Candidate {
    spec: TensorSpec,
    record: BaseTensorRecord,
    /// Its number among the tensors that are bases.
    number: Option<usize>,
}

/// The base of a tensor.
#[derive(Clone, Copy)]
pub(super) struct Found {
    candidate: usize,
    /// Whether tensor and base have the same bytes.
    pub(super) equal: bool,
}

impl Finder {
    /// Reads all tensors of the base, on rayon's current pool.
    pub(super) fn new(model: &Model) -> Result<Self, Error> {
        let meter = Meter::default();
        let candidate = |name: &&str| {
            let spec = model.spec(name)?.clone();
            let record = BaseTensorRecord { name: (*name).to_owned(), blake3: model.hash(name)? };
            meter.add(spec.byte_len() as u64, || model.release());
            Ok(Candidate { spec, record, number: None })
        };
        let tensors = model.names().par_iter().map(candidate).collect::<Result<Vec<_>, Error>>()?;
        let (mut by_name, mut by_content) = (HashMap::new(), HashMap::new());
        for (i, Candidate { spec, record, .. }) in tensors.iter().enumerate() {
            by_name.insert(record.name.clone(), i);
            by_content.entry((spec.to_string(), record.blake3)).or_insert(i);
        }
        Ok(Self { tensors, by_name, by_content })
    }

    /// The bases of all tensors of a file, in file order, on rayon's current pool. A tensor with
    /// the same dtype, shape and bytes is preferred, then the one with the same name, dtype and
    /// shape.
    pub(super) fn find_all(&self, model: &Model) -> Result<Vec<Option<Found>>, Error> {
        let meter = Meter::default();
        let names = model.names();
        let find = |name: &&str| {
            let spec = model.spec(name)?;
            let found = self.find(name, spec, model.hash(name)?);
            meter.add(spec.byte_len() as u64, || model.release());
            Ok(found)
        };
        names.par_iter().map(find).collect()
    }

    fn find(&self, name: &str, spec: &TensorSpec, hash: Hash) -> Option<Found> {
        let named = self.by_name.get(name).copied().filter(|i| self.tensors[*i].spec == *spec);
        if let Some(candidate) = named.filter(|i| self.tensors[*i].record.blake3 == hash) {
            return Some(Found { candidate, equal: true });
        }
        let same = self.by_content.get(&(spec.to_string(), hash)).copied();
        let (candidate, equal) = same.map(|i| (i, true)).or_else(|| Some((named?, false)))?;
        Some(Found { candidate, equal })
    }

    /// The number of a base tensor in `used`, the tensors that are bases.
    pub(super) fn number(&mut self, found: Found, used: &mut Vec<BaseTensorRecord>) -> usize {
        let candidate = &mut self.tensors[found.candidate];
        *candidate.number.get_or_insert_with(|| {
            used.push(candidate.record.clone());
            used.len() - 1
        })
    }
}
