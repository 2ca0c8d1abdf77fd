//! The tensors of the manifest, checked against the sections of the file.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use codec_api::{Codec, CodecError, EncodedTensor, Payload, QualityLevel, TensorSpec};

use super::levels::Stored;
use super::manifest::{ChunkRecord, TensorRecord};
use super::names;
use crate::plan::Tried;

/// One tensor of the manifest.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) file: usize,
    pub(crate) spec: TensorSpec,
    /// Number of its base tensor. A tensor with a base but without chunks equals it.
    pub(super) base: Option<usize>,
    /// Index of the entry with the chunks: its own, or that of a tensor with the same bytes.
    pub(super) holder: usize,
    pub(super) chunks: Vec<Chunk>,
    pub(super) tried: Vec<Tried>,
}

/// What the manifest has beside tensors.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Number of source files.
    pub(super) files: usize,
    /// Number of base tensors.
    pub(super) bases: usize,
}

/// Some rows of a tensor.
pub(super) struct Chunk {
    pub(super) record: ChunkRecord,
    /// With the sections that the file holds.
    pub(super) encoded: EncodedTensor,
    /// Bytes of the sections up to each quality level.
    pub(super) bytes: Vec<u64>,
    /// Number of levels that the file holds.
    pub(super) whole: usize,
    /// Number of levels whose checksums were compared, and right.
    pub(super) checked: AtomicUsize,
}

/// The tensors of the manifest and their places by name. Takes their sections from `stored`.
///
/// # Errors
/// What contradicts the sections, or itself, and in which tensor.
pub(super) fn entries(
    records: Vec<TensorRecord>,
    limits: Limits,
    codecs: &[Arc<dyn Codec>],
    stored: &mut Stored,
) -> Result<(Vec<Entry>, HashMap<String, usize>), String> {
    let mut by_name = HashMap::new();
    for (i, record) in records.iter().enumerate() {
        if by_name.insert(record.name.clone(), i).is_some() {
            return Err(format!("tensor `{}` occurs twice", record.name));
        }
    }
    let mut entries = Vec::with_capacity(records.len());
    let mut aliases = Vec::new();
    for (i, mut record) in records.into_iter().enumerate() {
        let (name, other) = (record.name.clone(), record.same_as.take());
        let entry = Entry::read(record, i, limits, other.is_some(), codecs, stored);
        entries.push(entry.map_err(|reason| format!("tensor `{name}`: {reason}"))?);
        if let Some(other) = other {
            let holder = by_name.get(&other);
            aliases.push((i, *holder.ok_or_else(|| format!("tensor `{name}`: `{other}` does not exist"))?));
        }
    }
    for (i, holder) in aliases {
        let (alias, other): (&Entry, &Entry) = (&entries[i], &entries[holder]);
        // A holder has chunks of its own, so there are no chains and no circles.
        if other.chunks.is_empty() || other.spec != alias.spec {
            let found =
                if other.chunks.is_empty() { "a tensor without chunks".to_owned() } else { other.spec.to_string() };
            return Err(format!("tensor `{}`: it is {}, `{}` is {found}", alias.name, alias.spec, other.name));
        }
        entries[i].holder = holder;
    }
    Ok((entries, by_name))
}

impl Entry {
    /// Reads record number `i`. An alias has no chunks.
    fn read(
        record: TensorRecord,
        i: usize,
        limits: Limits,
        alias: bool,
        codecs: &[Arc<dyn Codec>],
        stored: &mut Stored,
    ) -> Result<Self, String> {
        let TensorRecord { name, file, dtype, shape, base, chunks, tried, .. } = record;
        if file >= limits.files {
            return Err(format!("its source file {file} does not exist"));
        }
        if let Some(base) = base.filter(|base| *base >= limits.bases) {
            return Err(format!("its base tensor {base} does not exist"));
        }
        let spec = TensorSpec::new(dtype, shape).map_err(|e| e.to_string())?;
        if alias != (chunks.is_empty() && base.is_none()) {
            return Err("it must have either chunks or a base, or the name of the tensor that has them".to_owned());
        }
        if !chunks.is_empty() {
            check_cover(spec.matrix().0, &chunks)?;
        }
        let chunk = |(number, record)| Chunk::read(&name, number, record, &spec, codecs, stored);
        let chunks = chunks.into_iter().enumerate().map(chunk).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { name, file, spec, base, holder: i, chunks, tried })
    }
}

/// Checks that the chunks cover all rows in order.
fn check_cover(rows: usize, chunks: &[ChunkRecord]) -> Result<(), String> {
    let mut covered = 0;
    for ChunkRecord { rows: [first, end], .. } in chunks {
        // Only the single chunk of an empty tensor has no rows.
        if *first != covered || *end > rows || (first >= end && rows > 0) {
            return Err(format!("a chunk of rows {first}..{end} follows row {covered} of {rows}"));
        }
        covered = *end;
    }
    if covered != rows || (rows == 0 && chunks.len() > 1) {
        return Err(format!("its {} chunks cover {covered} of {rows} rows", chunks.len()));
    }
    Ok(())
}

/// The level of a section. A name that no level knows, which the decoder will refuse, is in the
/// first.
pub(crate) fn level_of(levels: &[QualityLevel], section: &str) -> usize {
    levels.iter().position(|level| level.has(section)).unwrap_or(0)
}

/// Checks that the record describes every level but the last.
fn check_levels(record: &ChunkRecord, levels: usize) -> Result<(), String> {
    if record.levels.len() + 1 != levels {
        return Err(format!("it states the errors of {} quality levels of {levels}", record.levels.len() + 1));
    }
    match record.levels.iter().position(|level| !level.certificate.is_valid()) {
        Some(level) => Err(format!("quality level {level} has no valid certificate")),
        None => Ok(()),
    }
}

impl Chunk {
    fn read(
        tensor: &str,
        number: usize,
        record: ChunkRecord,
        spec: &TensorSpec,
        codecs: &[Arc<dyn Codec>],
        stored: &mut Stored,
    ) -> Result<Self, String> {
        let [first, end] = record.rows;
        let wrong = |e: CodecError| format!("rows {first}..{end}: {e}");
        let codec = codecs.get(record.codec).ok_or_else(|| format!("its codec {} does not exist", record.codec))?;
        let spec = spec.with_rows(end - first).map_err(wrong)?;
        codec.accepts(&spec).map_err(wrong)?;
        let levels = codec.levels(&spec);
        check_levels(&record, levels.len()).map_err(|reason| format!("rows {first}..{end}: {reason}"))?;
        let (mut sections, mut bytes, mut whole) = (Vec::new(), vec![0; levels.len()], levels.len());
        for name in record.sections.keys() {
            let place = names::section(tensor, number, name);
            let level = level_of(&levels, name);
            let found = stored.take(&place, level).ok_or_else(|| format!("its section `{place}` is missing"))?;
            bytes[level..].iter_mut().for_each(|sum| *sum += found.bytes);
            match found.section {
                Some(section) => sections.push((name.clone(), section)),
                None => whole = whole.min(level),
            }
        }
        let payload = Payload::from_sections(sections).map_err(wrong)?;
        let encoded = EncodedTensor::from_parts(spec, Arc::clone(codec), payload, record.certificate).map_err(wrong)?;
        Ok(Self { record, encoded, bytes, whole, checked: AtomicUsize::new(0) })
    }
}
