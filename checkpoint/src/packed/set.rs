//! The files of a packed model: one, or the shards of a set.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use codec_api::{FormatVersion, read_safetensors_header, read_safetensors_prefix};

use super::head::{Head, wrong};
use super::levels::{Place, Stored};
use super::manifest::{Hash, Manifest, Member, ShardRecord, Shards};
use super::names;
use crate::error::Error;
use crate::index::Index;
use crate::layout::{MISSING, listed, name};
use crate::map::{Mapped, Pages};
use crate::shard::{open_mapped, refused};

/// The mapped files of a packed model, in the order of their sections.
pub(super) struct Set {
    files: Vec<File>,
    /// The most bytes that a file should have, if there are several.
    pub(super) max_bytes: Option<u64>,
}

/// A file of a packed model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackedFile {
    /// Its path.
    pub path: PathBuf,
    /// The length that it should have, in bytes.
    pub bytes: u64,
    /// The length that it has; `None` if it is missing.
    pub found: Option<u64>,
}

struct File {
    path: PathBuf,
    /// The length that it should have.
    bytes: u64,
    /// `None` if it is missing.
    found: Option<(Bytes, Mapped)>,
}

/// A packed model whose manifest is not compared with the sections yet.
pub(super) struct Unassembled {
    pub(super) set: Set,
    pub(super) manifest: Manifest,
    pub(super) stored: Stored,
}

impl Unassembled {
    /// Reads the packed file at `path`, or all files of the set that has this file.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let head = Head::read(path)?;
        let Some(member) = head.member()? else { return Self::of(head, None) };
        let paths = head.siblings(member.number, member.count)?;
        if let Some(first) = paths.first().filter(|first| first.exists()) {
            let found = Self::of(Head::read(first)?, None)?;
            if found.set.is_several() {
                return Ok(found);
            }
            return Err(wrong(first, format!("it is a model of its own, and `{}` is a shard", name(path))));
        }
        let missing: Vec<String> = paths.iter().filter(|path| !path.exists()).map(|path| lacking(path)).collect();
        Err(incomplete(path, paths.len(), &missing))
    }

    /// Reads the only file of a model, or the files of a set, before they have their names.
    pub(super) fn read_all(paths: &[&Path]) -> Result<Self, Error> {
        let head = Head::read(paths.first().copied().unwrap_or(Path::new("")))?;
        Self::of(head, Some(paths.iter().map(|path| (*path).to_owned()).collect()))
    }

    /// The model with this first file. Without `paths`, the names of the others follow from its
    /// own.
    fn of(mut head: Head, paths: Option<Vec<PathBuf>>) -> Result<Self, Error> {
        let text = head.manifest()?;
        let (hash, manifest) = (Hash::of(text.as_bytes()), Manifest::parse(&text).map_err(|e| head.wrong(e))?);
        if matches!(text, Cow::Owned(_)) {
            head.sections.remove(names::MANIFEST);
        }
        let Some(shards) = &manifest.shards else {
            let stored = Stored::new(std::mem::take(&mut head.sections), head.start as u64);
            let bytes = head.bytes.len() as u64;
            return Ok(Self { set: Set { files: vec![head.into_file(bytes)], max_bytes: None }, manifest, stored });
        };
        let count = shards.files.len();
        let paths = paths.map_or_else(|| head.siblings(1, count), Ok)?;
        if count < 2 || paths.len() != count {
            return Err(head.wrong(format!("it is one of {} files, its manifest states {count}", paths.len())));
        }
        let (set, stored) = read_set(head, shards, paths, hash)?;
        Ok(Self { set, manifest, stored })
    }
}

/// Reads all files of a set, at least two, of which `head` is the first. `hash` is that of its
/// manifest.
fn read_set(mut head: Head, shards: &Shards, paths: Vec<PathBuf>, hash: Hash) -> Result<(Set, Stored), Error> {
    let (first, count) = (head.path.clone(), shards.files.len());
    let ShardRecord { bytes: mut end, level } = shards.files[0];
    head.check_length(end)?;
    let mut stored = Stored::new(std::mem::take(&mut head.sections), head.start as u64);
    let (mut files, mut ends, mut missing) = (vec![head.into_file(end)], vec![(level, end)], false);
    for (i, (path, record)) in paths.into_iter().zip(&shards.files).enumerate().skip(1) {
        let member = Member { version: FormatVersion, number: i + 1, count, manifest: hash };
        let (file, sections) = File::read(path, *record, member, &first)?;
        missing |= sections.is_none();
        let added = stored.add(sections.unwrap_or_default(), end);
        added.map_err(|name| wrong(&file.path, format!("the section `{name}` is in another shard too")))?;
        let sum = end.checked_add(record.bytes);
        end = sum.ok_or_else(|| wrong(&first, "the lengths of its shards are too large"))?;
        ends.push((record.level, end));
        files.push(file);
    }
    let stored = if missing { stored.with_missing(ends) } else { stored };
    Ok((Set { files, max_bytes: Some(shards.max_bytes) }, stored))
}

/// The sections of a shard by stored name; `None` if its header is missing.
type Sections = Option<BTreeMap<String, Place>>;

impl File {
    /// Reads a shard, which must be the one `expected` of the set with this first shard. It may be
    /// missing or cut off.
    fn read(path: PathBuf, record: ShardRecord, expected: Member, first: &Path) -> Result<(Self, Sections), Error> {
        let bytes = record.bytes;
        if !path.exists() {
            return Ok((Self { path, bytes, found: None }, None));
        }
        match Head::read(&path) {
            Ok(mut head) => {
                head.check_member(expected, first)?;
                head.check_length(bytes)?;
                let sections = std::mem::take(&mut head.sections);
                Ok((head.into_file(bytes), Some(sections)))
            }
            Err(error) => match open_mapped(&path) {
                // Its header was cut off.
                Ok(found) if (found.0.len() as u64) < bytes => Ok((Self { path, bytes, found: Some(found) }, None)),
                _ => Err(error),
            },
        }
    }

    /// Its name and what it lacks, if it is not whole.
    fn fault(&self) -> Option<String> {
        match &self.found {
            None => Some(lacking(&self.path)),
            Some((found, _)) if (found.len() as u64) < self.bytes => {
                Some(format!("{} ends after {} of {} bytes", name(&self.path), found.len(), self.bytes))
            }
            Some(_) => None,
        }
    }
}

impl Head {
    fn into_file(self, bytes: u64) -> File {
        File { path: self.path, bytes, found: Some((self.bytes, self.mapped)) }
    }
}

fn lacking(path: &Path) -> String {
    format!("{} is missing", name(path))
}

/// The error for shards that are not whole.
fn incomplete(path: &Path, total: usize, faults: &[String]) -> Error {
    Error::Incomplete { path: path.to_owned(), total, count: faults.len(), names: listed(faults, MISSING) }
}

impl Set {
    /// Whether there are several files.
    pub(super) fn is_several(&self) -> bool {
        self.files.len() > 1
    }

    /// The path that names the model: the file, or the index of the set, or without one its first
    /// file.
    pub(super) fn path(&self) -> PathBuf {
        self.index().unwrap_or_else(|| self.first().to_owned())
    }

    pub(super) fn first(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |file| &file.path)
    }

    /// The index of the set, if it is there.
    fn index(&self) -> Option<PathBuf> {
        let (whole, ..) = names::parse_shard(self.first()).filter(|_| self.is_several())?;
        let index = names::set_index(&whole);
        index.exists().then_some(index)
    }

    /// All files, and the index.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).chain(self.index()).collect()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = PackedFile> {
        self.files.iter().map(|file| {
            let found = file.found.as_ref().map(|(bytes, _)| bytes.len() as u64);
            PackedFile { path: file.path.clone(), bytes: file.bytes, found }
        })
    }

    /// The length of all files that are there.
    pub(super) fn bytes(&self) -> u64 {
        self.files().filter_map(|file| file.found).sum()
    }

    /// Names of the files that are not whole, and what they lack.
    pub(super) fn faults(&self) -> String {
        listed(&self.all_faults(), MISSING)
    }

    fn all_faults(&self) -> Vec<String> {
        self.files.iter().filter_map(File::fault).collect()
    }

    /// The error for a model without its first quality level.
    pub(super) fn cut_off(&self) -> Error {
        if let [File { path, found: Some((bytes, _)), .. }] = &*self.files
            // The strict reader names the tensor where the file ends.
            && let Err(error) = read_safetensors_header(bytes)
        {
            return refused(path, bytes, error);
        }
        incomplete(&self.path(), self.files.len(), &self.all_faults())
    }

    /// What the index says otherwise than the files that are there.
    pub(super) fn index_fault(&self) -> Option<Error> {
        let path = self.index()?;
        let index = match Index::read(path.clone()) {
            Ok(index) => index,
            Err(error) => return Some(error),
        };
        let mut places = index.places().clone();
        for file in &self.files {
            let Some((bytes, mapped)) = &file.found else { continue };
            if let Err(shortened) = mapped.check(&file.path) {
                return Some(shortened);
            }
            let Ok((header, _)) = read_safetensors_prefix(bytes) else { continue };
            for section in header.offset_keys() {
                if places.remove(&section).as_ref() != Some(&file.path) {
                    let reason = format!("it does not place section `{section}` in `{}`", name(&file.path));
                    return Some(Error::Index { path, reason });
                }
            }
        }
        let there = |path: &PathBuf| self.files.iter().any(|file| file.path == *path && file.fault().is_none());
        let (section, _) = places.into_iter().find(|(_, path)| there(path))?;
        Some(Error::Index { path, reason: format!("it names the section `{section}`, which its shard does not have") })
    }

    /// The file that holds these bytes of a section; the whole model for a section without bytes.
    pub(super) fn holder(&self, section: &Bytes) -> PathBuf {
        self.files.iter().find(|file| file.holds(section)).map_or_else(|| self.path(), |file| file.path.clone())
    }

    /// The end of a section in all files, one after the other; 0 for a section without bytes.
    pub(super) fn end(&self, section: &Bytes) -> u64 {
        let mut before = 0;
        for file in &self.files {
            if let Some((bytes, _)) = file.found.as_ref().filter(|_| file.holds(section)) {
                return before + (section.as_ptr_range().end as usize - bytes.as_ptr() as usize) as u64;
            }
            before += file.bytes;
        }
        0
    }

    /// Checks that no file that holds one of these sections has become shorter.
    pub(super) fn check<'a>(&self, sections: &(impl Iterator<Item = &'a Bytes> + Clone)) -> Result<(), Error> {
        for file in &self.files {
            let needed = || sections.clone().any(|section| file.holds(section));
            if let Some((_, mapped)) = file.found.as_ref().filter(|_| !self.is_several() || needed()) {
                mapped.check(&file.path)?;
            }
        }
        Ok(())
    }

    pub(super) fn pages(&self) -> Pages {
        Pages::new(self.files.iter().filter_map(|file| file.found.as_ref()).map(|(_, mapped)| mapped))
    }

    /// Gives back the memory of the pages that were read so far.
    pub(super) fn release(&self) {
        self.files.iter().filter_map(|file| file.found.as_ref()).for_each(|(_, mapped)| mapped.release());
    }
}

impl File {
    fn holds(&self, section: &Bytes) -> bool {
        self.found.as_ref().is_some_and(|(bytes, _)| bytes.as_ptr_range().contains(&section.as_ptr()))
    }
}
