//! Quality levels of a packed file: its first bytes are a coarse model.

use std::collections::BTreeMap;

use codec_api::Section;

use super::open::Packed;
use crate::error::Error;

/// A quality level of a packed model ([`Packed::levels`]). It includes the levels before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackedLevel {
    /// Length of the beginning of the file that holds the level, in bytes; of a set, the length of
    /// its first files together. If files are missing, it counts them whole.
    pub file_bytes: u64,
    /// Bytes of the tensors' sections, without those in missing files.
    pub bytes: u64,
    /// Whether the file holds it. A file that was cut off holds the first levels only.
    pub whole: bool,
}

/// A section in the header of a file.
pub(super) struct Place {
    /// `None` if the file ends before it, or is missing.
    pub(super) section: Option<Section>,
    /// 0 if the file is missing.
    pub(super) bytes: u64,
    /// Its end in the file; in a set, in all files one after the other.
    pub(super) end: u64,
}

/// The sections that nobody has taken yet, and what each level has of the others.
pub(super) struct Stored {
    sections: BTreeMap<String, Place>,
    levels: Vec<Level>,
    /// The shards of a set of which some are missing: level of the first section, and end.
    shards: Vec<(usize, u64)>,
}

/// The sections of a level alone.
#[derive(Clone, Copy, Default)]
struct Level {
    /// End of the last one.
    end: u64,
    /// Bytes of the tensors' sections.
    bytes: u64,
    /// Whether one is missing.
    cut: bool,
}

impl Stored {
    /// The sections by stored name, of a file whose data begin at `start`.
    pub(super) fn new(sections: BTreeMap<String, Place>, start: u64) -> Self {
        Self { sections, levels: vec![Level { end: start, ..Level::default() }], shards: Vec::new() }
    }

    /// Adds the sections of another file, which begins behind so many bytes.
    ///
    /// # Errors
    /// The first name that is there already.
    pub(super) fn add(&mut self, sections: BTreeMap<String, Place>, begin: u64) -> Result<(), String> {
        for (name, mut place) in sections {
            place.end = place.end.saturating_add(begin);
            if self.sections.contains_key(&name) {
                return Err(name);
            }
            self.sections.insert(name, place);
        }
        Ok(())
    }

    /// Allows sections that are in no file. `shards` are all shards of the set, each with the
    /// quality level of its first section and its end.
    pub(super) fn with_missing(self, shards: Vec<(usize, u64)>) -> Self {
        Self { shards, ..self }
    }

    /// Takes a section of a tensor.
    pub(super) fn take(&mut self, name: &str, level: usize) -> Option<Place> {
        let place = self.take_frame(name, level)?;
        self.levels[level].bytes += place.bytes;
        Some(place)
    }

    /// Takes another section.
    pub(super) fn take_frame(&mut self, name: &str, level: usize) -> Option<Place> {
        let place = self.sections.remove(name).or_else(|| self.missing(level))?;
        if level >= self.levels.len() {
            self.levels.resize(level + 1, Level::default());
        }
        let found = &mut self.levels[level];
        found.end = place.end.max(found.end);
        found.cut |= place.section.is_none();
        Some(place)
    }

    /// A section in a missing shard: it ends no later than the last shard of its level.
    fn missing(&self, level: usize) -> Option<Place> {
        let ends = self.shards.iter().filter(|(first, _)| *first <= level).map(|(_, end)| *end);
        Some(Place { section: None, bytes: 0, end: ends.max()? })
    }

    /// The levels, and the sections that nobody has taken.
    pub(super) fn finish(self) -> (Vec<PackedLevel>, BTreeMap<String, Place>) {
        let mut all = PackedLevel { whole: true, ..PackedLevel::default() };
        let mut add = |level: Level| {
            (all.file_bytes, all.bytes) = (all.file_bytes.max(level.end), all.bytes + level.bytes);
            all.whole &= !level.cut;
            all.clone()
        };
        (self.levels.into_iter().map(&mut add).collect(), self.sections)
    }
}

impl Packed {
    /// The quality levels, coarsest first; at least one. Sections are ordered by level, so that the
    /// first bytes of the file are a coarse model, which opens like the whole file. Tensors whose
    /// codec has fewer levels are complete in all levels from their last one on.
    pub fn levels(&self) -> &[PackedLevel] {
        &self.levels
    }

    /// The model at a quality level: tensors decode to the values of this level, and certificates,
    /// hashes and bytes are those of this level.
    ///
    /// # Errors
    /// [`Error::Level`] if there is no such level, or the file was cut off before its end.
    pub fn at_level(mut self, level: usize) -> Result<Self, Error> {
        self.check_level(level)?;
        if !self.levels[level].whole {
            return Err(self.cut_off(level, ""));
        }
        self.level = level;
        Ok(self)
    }

    /// Checks that the model has this level, whole or not.
    pub(super) fn check_level(&self, level: usize) -> Result<(), Error> {
        let last = self.levels.len() - 1;
        if level <= last {
            return Ok(());
        }
        let reason = format!("it has no quality level {level}; its levels are 0 to {last}");
        Err(Error::Level { path: self.path.clone(), reason })
    }

    /// The error for a level that is not whole. `part` is what needs it, with a colon behind.
    pub(super) fn cut_off(&self, level: usize, part: &str) -> Error {
        let whole = self.levels.iter().filter(|level| level.whole).count();
        let needs = |level: usize| format!("level {level} needs the first {}", self.levels[level].file_bytes);
        let next = if whole < level { format!("{}, ", needs(whole)) } else { String::new() };
        let (last, needs) = (whole.saturating_sub(1), needs(level));
        let (ends, of) = if self.set.is_several() {
            (self.set.faults(), " of the set")
        } else {
            (format!("the file ends after {} bytes", self.file_bytes()), "")
        };
        let reason = format!(
            "{part}{ends}, so that quality level {last} is its last whole one; \
             {next}{needs} bytes{of}; fetch them, or read level {last}"
        );
        Error::Level { path: self.path.clone(), reason }
    }
}
