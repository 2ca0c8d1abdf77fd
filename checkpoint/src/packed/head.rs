//! The header of a packed file or shard.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use codec_api::{Section, read_safetensors_prefix};

use super::compressed::Compressed;
use super::levels::Place;
use super::manifest::{KEY, MEMBER_KEY, Manifest, Member, checked, is_manifest};
use super::names;
use crate::error::Error;
use crate::layout::name;
use crate::map::Mapped;
use crate::shard::{open_mapped, refused};

/// Most files of a set.
pub(crate) const MAX_SHARDS: usize = 1_000_000;

/// A mapped file that may be cut off behind its header.
pub(super) struct Head {
    pub(super) path: PathBuf,
    pub(super) bytes: Bytes,
    pub(super) mapped: Mapped,
    strings: HashMap<String, String>,
    /// The sections by stored name.
    pub(super) sections: BTreeMap<String, Place>,
    /// Where they begin.
    pub(super) start: usize,
}

impl Head {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let (bytes, mapped) = open_mapped(path)?;
        let (header, start) = read_safetensors_prefix(&bytes).map_err(|e| refused(path, &bytes, e))?;
        let mut sections = BTreeMap::new();
        for (name, info) in header.tensors() {
            let (begin, end) = info.data_offsets;
            let whole = end <= bytes.len() - start;
            let section = || Section::new(info.dtype, info.shape.clone(), bytes.slice(start + begin..start + end));
            let section = whole.then(section).transpose();
            let section = section.map_err(|e| wrong(path, format!("section `{name}`: {e}")))?;
            let bytes = (end - begin) as u64;
            sections.insert(name, Place { section, bytes, end: (start as u64).saturating_add(end as u64) });
        }
        let strings = header.metadata().clone().unwrap_or_default();
        Ok(Self { path: path.to_owned(), bytes, mapped, strings, sections, start })
    }

    pub(super) fn wrong(&self, reason: impl Into<String>) -> Error {
        wrong(&self.path, reason)
    }

    /// The text of the manifest, owned if a section holds it.
    pub(super) fn manifest(&self) -> Result<Cow<'_, str>, Error> {
        if !self.strings.get(KEY).is_some_and(|text| is_manifest(text)) {
            return Err(self.wrong(format!("it has no manifest under `{KEY}` in its `__metadata__`")));
        }
        let text = checked(&self.strings, KEY).map_err(|reason| self.wrong(reason))?;
        let Some(compressed) = Compressed::parse(text) else { return Ok(text.into()) };
        let place = self.sections.get(names::MANIFEST);
        let section = place.and_then(|place| place.section.as_ref());
        let section = section.ok_or_else(|| self.wrong("it ends before its manifest"))?;
        Ok(compressed.text(section.data()).map_err(|reason| self.wrong(reason))?.into())
    }

    /// What a shard other than the first says of itself.
    pub(super) fn member(&self) -> Result<Option<Member>, Error> {
        if !self.strings.contains_key(MEMBER_KEY) {
            return Ok(None);
        }
        let text = checked(&self.strings, MEMBER_KEY).map_err(|reason| self.wrong(reason))?;
        let parsed = serde_json::from_str(text);
        parsed.map(Some).map_err(|e| self.wrong(format!("its `{MEMBER_KEY}` in `__metadata__`: {e}")))
    }

    /// Checks that this is the shard `expected` of the set with this first shard.
    pub(super) fn check_member(&self, expected: Member, first: &Path) -> Result<(), Error> {
        let Member { number, count, manifest, .. } = expected;
        let Some(found) = self.member()? else {
            let first = name(first);
            return Err(self.wrong(format!("it is not shard {number} of {count} of the packed model of `{first}`")));
        };
        if found.manifest != manifest {
            let (first, other) = (name(first), found.manifest);
            return Err(self.wrong(format!(
                "it is a shard of another packing, whose manifest has blake3 {other}; that in `{first}` has {manifest}"
            )));
        }
        if (found.number, found.count) != (number, count) {
            return Err(self.misplaced((found.number, found.count), (number, count)));
        }
        Ok(())
    }

    /// The error for a shard with the number and count of another one in its name.
    fn misplaced(&self, (number, count): (usize, usize), (other, of): (usize, usize)) -> Error {
        let reason = "shards were swapped or renamed";
        self.wrong(format!("it is shard {number} of {count}, and has the name of shard {other} of {of}: {reason}"))
    }

    /// Checks that the header declares as many bytes as the manifest of the set states. The file
    /// may be shorter, but not longer: reading the header has refused that.
    pub(super) fn check_length(&self, bytes: u64) -> Result<(), Error> {
        let declared = self.sections.values().map(|place| place.end).max().unwrap_or(self.start as u64);
        if declared == bytes {
            return Ok(());
        }
        Err(self.wrong(format!("its header declares {declared} bytes, and the manifest of its set states {bytes}")))
    }

    /// The paths of all shards of its set, by the name of this one.
    pub(super) fn siblings(&self, number: usize, count: usize) -> Result<Vec<PathBuf>, Error> {
        if count > MAX_SHARDS {
            return Err(self.wrong(format!("it is one of {count} shards, more than {MAX_SHARDS}")));
        }
        match names::parse_shard(&self.path) {
            Some((whole, other, of)) if (other, of) == (number, count) => {
                Ok((1..=count).map(|number| names::shard(&whole, number, count)).collect())
            }
            Some((_, other, of)) => Err(self.misplaced((number, count), (other, of))),
            None => {
                let example = names::shard(Path::new("NAME"), number, count);
                let example = example.display();
                let reason = format!("it is shard {number} of {count}, and its name must be like `{example}`");
                Err(self.wrong(format!("{reason}, so that the other shards are found")))
            }
        }
    }

    /// Whether it is a file of a set.
    pub(super) fn is_of_set(&self) -> bool {
        let in_set = |text: &str| Manifest::parse(text).is_ok_and(|manifest| manifest.shards.is_some());
        self.strings.contains_key(MEMBER_KEY) || self.manifest().is_ok_and(|text| in_set(&text))
    }
}

pub(super) fn wrong(path: &Path, reason: impl Into<String>) -> Error {
    Error::Manifest { path: path.to_owned(), reason: reason.into() }
}
