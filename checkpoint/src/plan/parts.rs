//! Parts: the files that units write and the commit puts together.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use codec_api::{Payload, TensorSpec, read_safetensors_header};
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::error::Error;
use crate::layout::{MISSING, listed};
use crate::packed::{AtomicFile, ChunkRecord, Hash, checked, crc32c, create_directory, header, section_name};
use crate::shard::open_mapped;

/// The metadata key of a part.
const KEY: &str = "netweight.part";

/// What a unit has done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Hash of the plan.
    plan: Hash,
    unit: usize,
    chunks: Vec<Done>,
}

/// An encoded chunk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    /// Number of the tensor.
    pub(super) tensor: usize,
    /// Number of the chunk.
    pub(super) chunk: usize,
    pub(super) record: ChunkRecord,
}

/// A whole part of a plan.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) chunks: Vec<Done>,
    /// Spec and offset in the file of every section, by stored name.
    pub(super) sections: BTreeMap<String, (TensorSpec, u64)>,
}

/// Whether a file of this name is a part.
pub(super) fn is_part(name: &str) -> bool {
    name.starts_with("unit-") && name.ends_with(".safetensors")
}

impl Plan {
    /// The file that a unit writes, in the folder of the parts.
    pub fn part_path(&self, unit: usize) -> PathBuf {
        self.parts().join(format!("unit-{unit:05}.safetensors"))
    }

    /// The units without a whole part, whose bytes are not read.
    ///
    /// # Errors
    /// [`Error::Plan`] if the plan has no text.
    pub fn missing_units(&self) -> Result<Vec<usize>, Error> {
        let hash = self.hash()?;
        Ok((0..self.units()).filter(|unit| self.read_part(*unit, hash, false).is_none()).collect())
    }

    /// The parts of all units, whose bytes are not read.
    ///
    /// # Errors
    /// [`Error::Plan`] with the units that have none.
    pub(super) fn whole_parts(&self) -> Result<Vec<Part>, Error> {
        let hash = self.hash()?;
        let parts: Vec<Option<Part>> = (0..self.units()).map(|unit| self.read_part(unit, hash, false)).collect();
        let missing = parts.iter().enumerate().filter(|(_, part)| part.is_none());
        let missing: Vec<String> = missing.map(|(unit, _)| unit.to_string()).collect();
        if missing.is_empty() {
            return Ok(parts.into_iter().flatten().collect());
        }
        Err(self.wrong(format!("these units have not run: {}; run them first", listed(&missing, MISSING))))
    }

    /// Compares the bytes of all parts with their checksums.
    ///
    /// # Errors
    /// [`Error::Plan`] with the first unit whose part is damaged.
    pub(super) fn check_parts(&self) -> Result<(), Error> {
        let hash = self.hash()?;
        match (0..self.units()).find(|unit| self.read_part(*unit, hash, true).is_none()) {
            Some(unit) => Err(self.wrong(format!("the part of unit {unit} is damaged; run the unit again"))),
            None => Ok(()),
        }
    }

    /// Locks the folder of the parts until the result is dropped, where the system can lock one.
    ///
    /// # Errors
    /// [`Error::Plan`] if another process has it locked.
    pub(super) fn lock(&self) -> Result<Option<File>, Error> {
        let Ok(folder) = File::open(self.parts()) else { return Ok(None) };
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => Err(self.wrong("another commit of it is running; wait for its end")),
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "the parts are not locked");
                Ok(None)
            }
            Ok(()) => Ok(Some(folder)),
        }
    }

    /// Writes the part of a unit.
    pub(super) fn write_part(&self, unit: usize, chunks: Vec<(Done, Payload)>) -> Result<(), Error> {
        create_directory(&self.parts())?;
        let (done, payloads): (Vec<Done>, Vec<Payload>) = chunks.into_iter().unzip();
        let mut sections = Vec::new();
        for (done, payload) in done.iter().zip(&payloads) {
            for (name, section) in payload.sections() {
                sections.push((section_name(&self.tensors[done.tensor].name, done.chunk, name), section));
            }
        }
        let record = Record { plan: self.hash()?, unit, chunks: done };
        let record = serde_json::to_string(&record).map_err(|e| self.wrong(e.to_string()))?;
        let specs = sections.iter().map(|(name, section)| (name.as_str(), section.spec()));
        let head = header(specs, (KEY, &record)).map_err(|reason| self.wrong(reason))?;
        let mut file = AtomicFile::create(&self.part_path(unit))?;
        file.write(&head)?;
        sections.iter().try_for_each(|(_, section)| file.write(section.data()))?;
        // Checksums tell whether the part has survived a failure of the system.
        file.persist().map(drop)
    }

    /// The part of a unit, with the right checksums if `check`; `None` if there is none of this
    /// plan, or it is damaged.
    pub(super) fn read_part(&self, unit: usize, plan: Hash, check: bool) -> Option<Part> {
        let path = self.part_path(unit);
        let part = read(&path, plan, unit, check).filter(|part| self.has_chunks(unit, part));
        if part.is_none() && path.exists() {
            tracing::debug!(path = %path.display(), "the part is of another plan, or damaged");
        }
        part
    }

    /// Whether the part has exactly the chunks of the unit, as they were planned.
    fn has_chunks(&self, unit: usize, part: &Part) -> bool {
        let fits = |done: &Done| {
            let (tensor, record) = (&self.tensors[done.tensor], &done.record);
            let rows = tensor.rows(done.chunk);
            let stored =
                |section: &String| part.sections.contains_key(&section_name(&tensor.name, done.chunk, section));
            record.rows == [rows.start, rows.end]
                && record.codec < self.codecs.len()
                && record.sections.keys().all(stored)
        };
        let found = part.chunks.iter().map(|done| [done.tensor, done.chunk]);
        found.eq(self.units[unit].iter().copied()) && part.chunks.iter().all(fits)
    }
}

fn read(path: &Path, plan: Hash, unit: usize, check: bool) -> Option<Part> {
    let (bytes, _) = open_mapped(path).ok()?;
    let (file, start) = read_safetensors_header(&bytes).ok()?;
    let record: Record = serde_json::from_str(checked(file.metadata().as_ref()?, KEY).ok()?).ok()?;
    if record.plan != plan || record.unit != unit {
        return None;
    }
    let mut sections = BTreeMap::new();
    let mut sums = Vec::new();
    for (name, info) in file.tensors() {
        let (begin, end) = info.data_offsets;
        if check {
            sums.push(crc32c(&bytes[start + begin..start + end]));
        }
        let spec = TensorSpec::new(info.dtype, info.shape.as_slice()).ok()?;
        sections.insert(name, (spec, (start + begin) as u64));
    }
    if check {
        let mut stored: Vec<u32> =
            record.chunks.iter().flat_map(|done| done.record.sections.values().copied()).collect();
        stored.sort_unstable();
        sums.sort_unstable();
        if stored != sums {
            return None;
        }
    }
    Some(Part { path: path.to_owned(), chunks: record.chunks, sections })
}
