//! Makes plans.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use codec_api::{Chunking, Codec, FormatVersion, Registry, TensorSpec, TensorView};
use rayon::prelude::*;

use super::base::{Finder, Found, PlannedBase};
use super::contest::Contest;
use super::encoder::failed;
use super::source::Source;
use super::{Kind, Plan, PlannedTensor};
use crate::checkpoint::Checkpoint;
use crate::computed::Computed;
use crate::error::Error;
use crate::identity::FileIdentity;
use crate::layout;
use crate::model::Model;
use crate::packed::{BaseTensorRecord, Hash, PACKED_EXTENSION, is_packed_name, packed_file_of_index, parse_shard};
use crate::recipe::{Choice, Chooser, Goal, Method, Recipe, exact_codec};

/// Weights of a chunk, if its codec allows it.
const CHUNK: usize = 1 << 21;

/// Source bytes of a unit: a 64th of the model, but within these limits. A unit has at least one
/// chunk.
const UNIT: [u64; 2] = [1 << 20, 64 << 20];

/// Name and version of this program.
pub(super) const PROGRAM: &str = concat!("netweight ", env!("CARGO_PKG_VERSION"));

impl Plan {
    /// Plans to pack the model `source` ([`Checkpoint::open`]) as the file `target`, or in the
    /// directory `target` if it does not end with [`PACKED_EXTENSION`]. Every tensor gets the codec
    /// that the recipe chooses. Tensors with the same bytes are stored once. The seeds of codecs
    /// with random numbers derive from `seed`. If source and target are directories, the other
    /// files of the source will be copied ([`Companions`](crate::Companions)).
    ///
    /// It reads the headers of the model, and of tensors that may have the same bytes all of them.
    /// Tensors with `best` are encoded with the candidates, on rayon's current pool: units are
    /// independent of each other, so that the choice, which needs the whole tensor, is made here.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a recipe with wrong patterns or codecs; [`Error::Unfit`] for a recipe
    /// that needs calibration and has none, if the source is packed already or has two tensors of
    /// one name, if the target is named like a dense model or is a file of the source, or if one
    /// directory lies inside the other; those of [`Checkpoint::open`].
    pub fn new(
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
        recipe: &Recipe,
        seed: u64,
        registry: &Registry,
    ) -> Result<Self, Error> {
        Self::relative(source, target, &[], recipe, seed, registry)
    }

    /// As [`Self::new`], relative to another model, the first of `bases`, dense or packed. The
    /// others are the bases of a packed base, the nearest first
    /// ([`Packed::with_bases`](crate::Packed::with_bases)).
    ///
    /// The base of a tensor is a tensor of the same dtype, shape and bytes, else the one of the
    /// same name, dtype and shape. Of a tensor that equals its base nothing is stored. Others are
    /// stored as the exact difference (`delta.exact`), unless the codec of the recipe uses a base
    /// itself. Tensors without a base are stored as the recipe says.
    ///
    /// It reads both models whole, on rayon's current pool.
    ///
    /// # Errors
    /// As [`Self::new`]; [`Error::Unfit`] if the target is a file of the base, or of a base of the
    /// base; those of [`Packed::with_bases`](crate::Packed::with_bases) for a packed base.
    pub fn relative(
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
        bases: &[PathBuf],
        recipe: &Recipe,
        seed: u64,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let (path, target) = (source.as_ref(), target.as_ref());
        if recipe.method.is_some() && recipe.calibration.is_none() {
            return Err(Error::uncalibrated(path));
        }
        let mut chooser = Chooser::new(recipe, !bases.is_empty(), registry)?;
        let model = Checkpoint::open(path)?;
        let source = Source::of(&model)?;
        let mut base = bases.split_first().map(|(path, rest)| PlannedBase::new(path, rest)).transpose()?;
        let opened = base.as_ref().map(|base| base.open(&source, registry)).transpose()?;
        let base_files = opened.as_ref().map(Model::files).unwrap_or_default();
        let file = check_target(target, &model, &source, &base_files)?;
        let folder = (path.is_dir() && !is_packed_name(target)).then(|| layout::directory(&file));
        let companions = folder.map(|folder| source.companions(folder)).transpose()?;
        let companions = companions.map_or_else(Vec::new, |files| files.names().to_vec());
        let finder = opened.as_ref().map(Finder::new).transpose()?;
        let finder = finder.zip(base.as_mut().map(|base| &mut base.tensors));
        // Equal tensors may get different scales.
        let equal = recipe.method != Some(Method::Scaling);
        let plan = Self {
            kind: Kind::Plan,
            version: FormatVersion,
            program: PROGRAM.to_owned(),
            source,
            base: None,
            companions,
            target: file,
            max_shard_size: None,
            recipe: recipe.clone(),
            seed,
            codecs: Vec::new(),
            units: Vec::new(),
            tensors: Vec::new(),
            computed: OnceLock::new(),
            hash: OnceLock::new(),
            file: None,
        };
        let mut tensors = planned(&plan, &mut chooser, finder, equal, registry)?;
        if recipe.calibration.is_some() {
            // Feedback goes through whole tensors.
            for tensor in &mut tensors {
                tensor.chunk_rows = tensor.spec.matrix().0.max(1);
            }
        }
        Ok(Self { base, codecs: chooser.headers()?, units: units(&tensors), tensors, ..plan })
    }
}

/// The absolute path of the packed file.
fn check_target(target: &Path, model: &Checkpoint, source: &Source, base: &[PathBuf]) -> Result<PathBuf, Error> {
    let Some(name) = target.to_str() else { return Err(Error::unfit(target, "its name is not UTF-8")) };
    let path = if is_packed_name(target) {
        target.to_owned()
    } else if let Some(stem) = name.strip_suffix(layout::SUFFIX) {
        return Err(Error::unfit(target, format!("a packed file is named like `{stem}{PACKED_EXTENSION}`")));
    } else {
        target.join(packed_name(model))
    };
    // A target in a folder that does not exist yet is none of the files.
    if let Ok(found) = FileIdentity::of(&path) {
        for (files, of) in [(&*source_files(source), "source"), (base, "base")] {
            for file in files {
                if is_replaced(file, &found)? {
                    return Err(Error::unfit(&path, format!("it is a file of the {of}; give another target")));
                }
            }
        }
    }
    std::path::absolute(&path).map_err(|error| Error::write(&path, error))
}

fn source_files(source: &Source) -> Vec<PathBuf> {
    source.files.iter().chain(&source.index).map(|file| source.path(file)).collect()
}

/// Whether a file is the target, or would be replaced by a set in its place.
fn is_replaced(file: &Path, target: &FileIdentity) -> Result<bool, Error> {
    let found = FileIdentity::of(file).map_err(|e| Error::io(file, e))?;
    let whole = parse_shard(file).map(|(whole, ..)| whole).or_else(|| packed_file_of_index(file));
    Ok(found == *target || whole.is_some_and(|whole| FileIdentity::of(whole).is_ok_and(|of| of == *target)))
}

/// The usual name of the packed file of this model: `model.nw.safetensors` for `model.safetensors`
/// and for `model.safetensors.index.json`.
fn packed_name(model: &Checkpoint) -> String {
    let whole = model.index().and_then(layout::whole_name);
    let name = whole.or_else(|| model.files().first().map(|file| layout::name(file)));
    let stem = name.as_deref().map_or("model", |name| name.strip_suffix(layout::SUFFIX).unwrap_or(name));
    format!("{stem}{PACKED_EXTENSION}")
}

/// The tensors of all files. Those that are bases are appended to the list with the finder. If
/// `equal`, tensors with the same bytes are stored once.
fn planned(
    plan: &Plan,
    chooser: &mut Chooser<'_>,
    mut finder: Option<(Finder, &mut Vec<BaseTensorRecord>)>,
    equal: bool,
    registry: &Registry,
) -> Result<Vec<PlannedTensor>, Error> {
    let source = &plan.source;
    let mut tensors: Vec<PlannedTensor> = Vec::new();
    let (mut places, mut same, mut open) = (HashMap::new(), Same::default(), Vec::new());
    let models = plan.models(registry)?;
    for (file, model) in models.iter().enumerate() {
        if matches!(&**model, Model::Dense(model) if model.is_packed()) {
            return Err(Error::unfit(model.path(), "it is packed already; unpack it first"));
        }
        let found = finder.as_ref().map(|(finder, _)| finder.find_all(model)).transpose()?;
        for (i, name) in model.names().into_iter().enumerate() {
            if let Some(first) = places.insert(name.to_owned(), file) {
                return Err(twice(name, &source.path(&source.files[first]), model.path()));
            }
            let spec = model.spec(name)?.clone();
            let found: Option<Found> = found.as_ref().and_then(|found| found[i]);
            let (choice, refused) = chooser.choose(name, &spec, found.is_some());
            let equals_base = found.is_some_and(|found| found.equal);
            // With and without a base, the exact codec restores the same bytes.
            let exact = choice == Choice::Codec(exact_codec(found.is_some()));
            let group = if exact { Choice::Codec(0) } else { choice };
            let same_as = match &**model {
                _ if equals_base || !equal => None,
                Model::Computed(model) => same.find_computed(i, group, model),
                model => same.find(tensors.len(), group, &spec, &model.bytes(name)?),
            };
            // The system maps far more than the samples that were read.
            model.release();
            let base = found.filter(|_| same_as.is_none()).zip(finder.as_mut());
            let base = base.map(|(found, (finder, used))| finder.number(found, used));
            let codec = match choice {
                Choice::Codec(number) => number,
                Choice::Best(goal) => {
                    open.push((tensors.len(), goal));
                    0
                }
            };
            tensors.push(PlannedTensor {
                name: name.to_owned(),
                file,
                codec,
                chunk_rows: chunk_rows(&*chooser.codecs()[codec], &spec),
                spec,
                same_as,
                base,
                equals_base,
                refused,
                tried: Vec::new(),
            });
        }
    }
    choose_best(&mut tensors, &open, &models, chooser, plan.seed)?;
    Ok(tensors)
}

/// The error for a name that two files have.
fn twice(name: &str, first: &Path, second: &Path) -> Error {
    let reason = format!("tensor `{name}` is also in `{}`; pack the files one by one", first.display());
    Error::unfit(second, reason)
}

/// Chooses codecs by trial, for the tensors of these numbers and goals.
fn choose_best(
    tensors: &mut [PlannedTensor],
    open: &[(usize, Goal)],
    models: &[Arc<Model>],
    chooser: &mut Chooser<'_>,
    seed: u64,
) -> Result<(), Error> {
    let choose = |(number, goal): &(usize, Goal)| {
        let (tensor, goal) = (&tensors[*number], *goal);
        let model = &models[tensor.file];
        if tensor.same_as.is_some() {
            return Ok(None);
        }
        let (bytes, fallback) = (model.bytes(&tensor.name)?, Arc::clone(&chooser.codecs()[0]));
        let view = TensorView::new(tensor.spec.clone(), &bytes);
        let view = view.map_err(|error| failed(model, &tensor.name, &(0..tensor.spec.matrix().0), error))?;
        let candidates = chooser.candidates(goal, &tensor.spec);
        let contest = Contest { name: &tensor.name, view, model, seed, goal, fallback };
        contest.choose(&candidates).map(Some)
    };
    let chosen = open.par_iter().map(choose).collect::<Result<Vec<_>, Error>>()?;
    for ((number, _), chosen) in open.iter().zip(chosen) {
        if let Some(other) = tensors[*number].same_as {
            tensors[*number].codec = tensors[other].codec;
            continue;
        }
        let Some((codec, tried)) = chosen else { continue };
        let tensor = &mut tensors[*number];
        tensor.chunk_rows = chunk_rows(&*codec, &tensor.spec);
        (tensor.codec, tensor.tried) = (chooser.number(codec)?, tried);
    }
    Ok(())
}

/// Rows of a chunk: about [`CHUNK`] weights, as the codec allows, and whole bytes.
pub(super) fn chunk_rows(codec: &dyn Codec, spec: &TensorSpec) -> usize {
    let (rows, columns) = spec.matrix();
    let Chunking::Rows(granule) = codec.chunking(spec) else { return rows.max(1) };
    // Eight rows of any dtype are whole bytes.
    let bytes = if spec.dtype().bitsize() < 8 { 8 } else { 1 };
    let granule = granule.get().saturating_mul(bytes);
    (CHUNK / columns.max(1) / granule * granule).max(granule).min(rows.max(1))
}

/// Divides the chunks into units.
fn units(tensors: &[PlannedTensor]) -> Vec<Vec<[usize; 2]>> {
    let [least, most] = UNIT;
    let length = |tensor: &PlannedTensor| tensor.spec.byte_len() as u64;
    let wanted = (tensors.iter().map(length).sum::<u64>() / 64).clamp(least, most);
    let (mut units, mut unit, mut filled) = (Vec::new(), Vec::new(), 0);
    for (i, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| tensor.is_stored()) {
        let chunks = tensor.chunks();
        for chunk in 0..chunks {
            unit.push([i, chunk]);
            filled += length(tensor) / chunks as u64;
            if filled >= wanted {
                units.push(std::mem::take(&mut unit));
                filled = 0;
            }
        }
    }
    if !unit.is_empty() {
        units.push(unit);
    }
    units
}

/// Finds tensors with the same bytes.
#[derive(Default)]
struct Same {
    /// By choice, spec, and the hash of a sample: tensors of different bytes, each with the hash of
    /// all bytes once another tensor has the same sample.
    seen: HashMap<(String, Hash), Vec<Seen>>,
    /// The choices for the tensors of a computed model, by number.
    choices: HashMap<usize, Choice>,
}

struct Seen {
    tensor: usize,
    /// A slice of the file's map.
    bytes: Bytes,
    hash: Option<Hash>,
}

impl Same {
    /// An earlier tensor of a computed model with the same choice and expression.
    fn find_computed(&mut self, tensor: usize, choice: Choice, model: &Computed) -> Option<usize> {
        self.choices.insert(tensor, choice);
        model.inner().same_as(tensor).filter(|other| self.choices.get(other) == Some(&choice))
    }

    /// The first tensor with the same choice, spec and bytes; remembers this one if there is none.
    fn find(&mut self, tensor: usize, choice: Choice, spec: &TensorSpec, bytes: &Bytes) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        let seen = self.seen.entry((format!("{choice:?} {spec}"), Hash::of(&sample(bytes)))).or_default();
        let hash = (!seen.is_empty()).then(|| Hash::of(bytes));
        for other in &mut *seen {
            if Some(*other.hash.get_or_insert_with(|| Hash::of(&other.bytes))) == hash {
                return Some(other.tensor);
            }
        }
        seen.push(Seen { tensor, bytes: bytes.clone(), hash });
        None
    }
}

/// A few bytes from all over the tensor.
fn sample(bytes: &[u8]) -> Vec<u8> {
    const PIECES: usize = 16;
    const PIECE: usize = 64;
    let step = (bytes.len() / PIECES).max(1);
    bytes.chunks(step).flat_map(|part| &part[..part.len().min(PIECE)]).copied().collect()
}
