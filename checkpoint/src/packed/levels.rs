//! Quality levels of a packed file: its first bytes are a coarse model.

use std::collections::BTreeMap;

use codec_api::Section;

use super::open::Packed;
use crate::error::Error;

/// A quality level of a packed model ([`Packed::levels`]). It includes the levels before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackedLevel {
    /// Length of the beginning of the file that holds the level, in bytes.
    pub file_bytes: u64,
    /// Bytes of the tensors' sections.
    pub bytes: u64,
    /// Whether the file holds it. A file that was cut off holds the first levels only.
    pub whole: bool,
}

/// A section in the header of a file.
pub(super) struct Place {
    /// `None` if the file ends before it.
    pub(super) section: Option<Section>,
    pub(super) bytes: u64,
    /// Its end in the file.
    pub(super) end: u64,
}

/// The sections of a file that nobody has taken yet, and what each level has of the others.
pub(super) struct Stored {
    sections: BTreeMap<String, Place>,
    /// End of the last section, and bytes of the tensors' sections, of each level alone.
    levels: Vec<(u64, u64)>,
}

impl Stored {
    /// The sections by stored name, of a file whose data begin at `start`.
    pub(super) fn new(sections: BTreeMap<String, Place>, start: u64) -> Self {
        Self { sections, levels: vec![(start, 0)] }
    }

    /// Takes a section of a tensor.
    pub(super) fn take(&mut self, name: &str, level: usize) -> Option<Place> {
        let place = self.take_frame(name, level)?;
        self.levels[level].1 += place.bytes;
        Some(place)
    }

    /// Takes another section.
    pub(super) fn take_frame(&mut self, name: &str, level: usize) -> Option<Place> {
        let place = self.sections.remove(name)?;
        if level >= self.levels.len() {
            self.levels.resize(level + 1, (0, 0));
        }
        let end = &mut self.levels[level].0;
        *end = place.end.max(*end);
        Some(place)
    }

    /// The levels, in a file of this length, and the sections that nobody has taken.
    pub(super) fn finish(self, length: u64) -> (Vec<PackedLevel>, BTreeMap<String, Place>) {
        let mut all = PackedLevel::default();
        let mut add = |(end, bytes): (u64, u64)| {
            (all.file_bytes, all.bytes) = (all.file_bytes.max(end), all.bytes + bytes);
            all.whole = all.file_bytes <= length;
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
        let (length, last, needs) = (self.file_bytes, whole.saturating_sub(1), needs(level));
        let reason = format!(
            "{part}the file ends after {length} bytes, so that quality level {last} is its last whole one; \
             {next}{needs} bytes; fetch them, or read level {last}"
        );
        Error::Level { path: self.path.clone(), reason }
    }
}
