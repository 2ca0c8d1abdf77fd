//! Makes plans.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use codec_api::{Chunking, Codec, FormatVersion, Registry, TensorSpec};

use super::source::Source;
use super::{Kind, Plan, PlannedTensor};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::identity::FileIdentity;
use crate::layout;
use crate::packed::{Hash, PACKED_EXTENSION};
use crate::recipe::{Chooser, Recipe};

/// Weights of a chunk, if its codec allows it.
const CHUNK: usize = 1 << 22;

/// Source bytes of a unit: a 64th of the model, but within these limits. A unit has at least one
/// chunk.
const UNIT: [u64; 2] = [4 << 20, 64 << 20];

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
    ///
    /// # Errors
    /// [`Error::Recipe`] for a recipe with wrong patterns or codecs; [`Error::Unfit`] if the source
    /// is packed already or has two tensors of one name, if the target is named like a dense model
    /// or is a file of the source, or if one directory lies inside the other; those of
    /// [`Checkpoint::open`].
    pub fn new(
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
        recipe: &Recipe,
        seed: u64,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let (path, target) = (source.as_ref(), target.as_ref());
        let chooser = Chooser::new(recipe, registry)?;
        let model = Checkpoint::open(path)?;
        let source = Source::of(&model)?;
        let file = check_target(target, &model, &source)?;
        let folder = (path.is_dir() && !is_packed_name(target)).then(|| layout::directory(&file));
        let companions = folder.map(|folder| source.companions(folder)).transpose()?;
        let companions = companions.map_or_else(Vec::new, |files| files.names().to_vec());
        let tensors = planned(&source, &chooser)?;
        Ok(Self {
            kind: Kind::Plan,
            version: FormatVersion,
            program: PROGRAM.to_owned(),
            source,
            companions,
            target: file,
            recipe: recipe.clone(),
            seed,
            codecs: chooser.headers()?,
            units: units(&tensors),
            tensors,
            hash: OnceLock::new(),
            file: None,
        })
    }
}

fn is_packed_name(target: &Path) -> bool {
    target.to_str().is_some_and(|name| name.ends_with(PACKED_EXTENSION))
}

/// The absolute path of the packed file.
fn check_target(target: &Path, model: &Checkpoint, source: &Source) -> Result<PathBuf, Error> {
    let Some(name) = target.to_str() else { return Err(Error::unfit(target, "its name is not UTF-8")) };
    let path = if is_packed_name(target) {
        target.to_owned()
    } else if let Some(stem) = name.strip_suffix(layout::SUFFIX) {
        return Err(Error::unfit(target, format!("a packed file is named like `{stem}{PACKED_EXTENSION}`")));
    } else {
        target.join(packed_name(model))
    };
    // A target in a folder that does not exist yet is none of the files.
    if let Ok(identity) = FileIdentity::of(&path) {
        for file in source.files.iter().chain(&source.index) {
            let file = source.path(file);
            if FileIdentity::of(&file).map_err(|e| Error::io(&file, e))? == identity {
                return Err(Error::unfit(&path, "it is a file of the source; give another target"));
            }
        }
    }
    std::path::absolute(&path).map_err(|error| Error::write(&path, error))
}

/// The usual name of the packed file of this model: `model.nw.safetensors` for `model.safetensors`
/// and for `model.safetensors.index.json`.
fn packed_name(model: &Checkpoint) -> String {
    let whole = model.index().and_then(layout::whole_name);
    let name = whole.or_else(|| model.files().first().map(|file| layout::name(file)));
    let stem = name.as_deref().map_or("model", |name| name.strip_suffix(layout::SUFFIX).unwrap_or(name));
    format!("{stem}{PACKED_EXTENSION}")
}

/// The tensors of all files.
fn planned(source: &Source, chooser: &Chooser<'_>) -> Result<Vec<PlannedTensor>, Error> {
    let mut tensors: Vec<PlannedTensor> = Vec::new();
    let (mut places, mut same) = (HashMap::new(), Same::default());
    for file in 0..source.files.len() {
        let model = source.open(file)?;
        if model.is_packed() {
            return Err(Error::unfit(&model.files()[0], "it is packed already; unpack it first"));
        }
        for name in model.names() {
            if let Some(first) = places.insert(name.to_owned(), file) {
                let other = source.path(&source.files[first]).display().to_string();
                let reason = format!("tensor `{name}` is also in `{other}`; pack the files one by one");
                return Err(Error::unfit(&model.files()[0], reason));
            }
            let (spec, bytes) = model.bytes(name)?;
            let (codec, refused) = chooser.choose(name, &spec);
            let same_as = same.find(tensors.len(), codec, &spec, &bytes);
            tensors.push(PlannedTensor {
                name: name.to_owned(),
                file,
                codec,
                chunk_rows: chunk_rows(&*chooser.codecs()[codec], &spec),
                spec,
                same_as,
                refused,
            });
        }
    }
    Ok(tensors)
}

/// Rows of a chunk: about [`CHUNK`] weights, as the codec allows, and whole bytes.
fn chunk_rows(codec: &dyn Codec, spec: &TensorSpec) -> usize {
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
    for (i, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| tensor.same_as.is_none()) {
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
    /// By codec, spec, and the hash of a sample: tensors of different bytes, each with the hash of
    /// all bytes once another tensor has the same sample.
    seen: HashMap<(usize, String, Hash), Vec<Seen>>,
}

struct Seen {
    tensor: usize,
    /// A slice of the file's map.
    bytes: Bytes,
    hash: Option<Hash>,
}

impl Same {
    /// The first tensor with the same codec, spec and bytes; remembers this one if there is none.
    fn find(&mut self, tensor: usize, codec: usize, spec: &TensorSpec, bytes: &Bytes) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        let seen = self.seen.entry((codec, spec.to_string(), Hash::of(&sample(bytes)))).or_default();
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
