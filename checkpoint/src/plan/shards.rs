//! Divides the packed model into files of at most a given size.

use std::path::PathBuf;
use std::sync::OnceLock;

use codec_api::{CodecError, Dtype, FormatVersion, TensorSpec};

use super::Plan;
use super::commit::{Content, Piece};
use crate::error::Error;
use crate::layout::name;
use crate::packed::{
    Hash, KEY, MAX_SHARDS, MEMBER_KEY, Manifest, Member, Packed, ShardRecord, Shards, entry, head, header,
    padding_name, shard_path,
};

/// The least limit: below it, headers would be most of the files.
const MIN_SHARD: u64 = 1000;

/// A file of the packed model.
pub(super) struct NewFile {
    pub(super) target: PathBuf,
    /// The bytes before its sections.
    pub(super) head: Vec<u8>,
    pub(super) pieces: Vec<Piece>,
}

impl NewFile {
    pub(super) fn bytes(&self) -> u64 {
        self.head.len() as u64 + data_bytes(&self.pieces)
    }
}

/// The sections of a file, and the quality level of the first.
#[derive(Default)]
struct Group {
    level: usize,
    pieces: Vec<Piece>,
}

impl Group {
    fn head(&self, metadata: (&str, &str)) -> Result<Vec<u8>, String> {
        header(self.pieces.iter().map(Piece::entry), metadata)
    }
}

impl Plan {
    /// The same plan for a model in files of at most so many bytes, headers included, if it is
    /// larger. A section is not divided: a larger one has a file of its own, with a warning.
    ///
    /// # Errors
    /// [`Error::Unfit`] for less than 1 kB.
    pub fn with_max_shard_size(mut self, bytes: u64) -> Result<Self, Error> {
        self.max_shard_size = Some(bytes);
        self.check_shard_size().map_err(|reason| Error::unfit(&self.target, reason))?;
        self.hash = OnceLock::new();
        Ok(self)
    }

    /// The most bytes of a file; `None` if the packed model will be one file.
    pub fn max_shard_size(&self) -> Option<u64> {
        self.max_shard_size
    }

    pub(super) fn check_shard_size(&self) -> Result<(), String> {
        match self.max_shard_size {
            Some(bytes) if bytes < MIN_SHARD => {
                Err(format!("shards of at most {bytes} bytes are too small; give at least {MIN_SHARD}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a packed model is divided as this plan divides it.
    pub(super) fn has_shards_of(&self, packed: &Packed) -> bool {
        match (self.max_shard_size, packed.max_shard_size()) {
            (Some(most), None) => packed.file_bytes() <= most,
            (planned, found) => planned == found,
        }
    }

    /// The files of the packed model: one, or those of a set.
    pub(super) fn divide(&self, leveled: Vec<(usize, Piece)>, mut manifest: Manifest) -> Result<Vec<NewFile>, Error> {
        let cuts = match self.max_shard_size {
            Some(most) => self.cuts(&leveled, most, &mut manifest)?,
            None => vec![0],
        };
        let groups = groups(leveled, &cuts).map_err(|e| self.wrong(e.to_string()))?;
        let Some(most) = self.max_shard_size.filter(|_| groups.len() > 1) else {
            let text = self.manifest_text(&manifest)?;
            let file = |group: Group| {
                let head = head(group.pieces.iter().map(Piece::entry), &text).map_err(|reason| self.wrong(reason))?;
                Ok(NewFile { target: self.target.clone(), head, pieces: group.pieces })
            };
            return groups.into_iter().map(file).collect();
        };
        let heads = self.heads(&groups, most, manifest)?;
        let count = groups.len();
        let files = groups.into_iter().zip(heads).enumerate().map(|(i, (group, head))| {
            let file = NewFile { target: shard_path(&self.target, i + 1, count), head, pieces: group.pieces };
            warn_if_large(&file, most);
            file
        });
        Ok(files.collect())
    }

    fn manifest_text(&self, manifest: &Manifest) -> Result<String, Error> {
        serde_json::to_string(manifest).map_err(|e| self.wrong(e.to_string()))
    }

    /// The numbers of the sections that begin a file. The headers count with the most bytes that
    /// they can have. Leaves the manifest without shards.
    fn cuts(&self, leveled: &[(usize, Piece)], most: u64, manifest: &mut Manifest) -> Result<Vec<usize>, Error> {
        let wrong = |reason: String| self.wrong(reason);
        let largest_member = member(MAX_SHARDS, MAX_SHARDS, Hash([0; 32])).map_err(wrong)?;
        let mut count = 1;
        loop {
            let largest = ShardRecord { bytes: u64::MAX, level: usize::MAX };
            manifest.shards = (count > 1).then(|| Shards { max_bytes: most, files: vec![largest; count] });
            let text = self.manifest_text(manifest)?;
            let empty = Group::default();
            let first = empty.head((KEY, &text)).map_err(wrong)?.len() as u64;
            let other = empty.head((MEMBER_KEY, &largest_member)).map_err(wrong)?;
            let cuts = first_sections(leveled, most, [first, other.len() as u64]);
            if cuts.len() > MAX_SHARDS {
                return Err(wrong(format!("its model would have {} shards; give larger ones", cuts.len())));
            }
            // More files have a longer list of files, never a shorter one.
            if cuts.len() <= count {
                manifest.shards = None;
                return Ok(cuts);
            }
            count = cuts.len();
        }
    }

    /// The headers of the files of a set.
    fn heads(&self, groups: &[Group], most: u64, mut manifest: Manifest) -> Result<Vec<Vec<u8>>, Error> {
        let wrong = |reason: String| self.wrong(reason);
        let others = |hash: Hash| {
            let head = |(i, group): (usize, &Group)| group.head((MEMBER_KEY, &member(i + 1, groups.len(), hash)?));
            groups.iter().enumerate().skip(1).map(head).collect::<Result<Vec<_>, _>>()
        };
        // The hash of the manifest does not change the length of a header.
        let lengths = others(Hash([0; 32])).map_err(wrong)?.into_iter().map(|head| head.len() as u64);
        let lengths = [0].into_iter().chain(lengths);
        let record =
            |(group, head): (&Group, u64)| ShardRecord { bytes: head + data_bytes(&group.pieces), level: group.level };
        let mut shards = Shards { max_bytes: most, files: groups.iter().zip(lengths).map(record).collect() };
        loop {
            manifest.shards = Some(shards.clone());
            let text = self.manifest_text(&manifest)?;
            let first = groups[0].head((KEY, &text)).map_err(wrong)?;
            let bytes = first.len() as u64 + data_bytes(&groups[0].pieces);
            if bytes == shards.files[0].bytes {
                let mut heads = vec![first];
                heads.extend(others(Hash::of(text.as_bytes())).map_err(wrong)?);
                return Ok(heads);
            }
            // The manifest states its own length: more digits make it longer, never shorter.
            shards.files[0].bytes = bytes;
        }
    }
}

/// Bytes of sections.
fn data_bytes(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.spec.byte_len() as u64).sum()
}

fn member(number: usize, count: usize, manifest: Hash) -> Result<String, String> {
    serde_json::to_string(&Member { version: FormatVersion, number, count, manifest }).map_err(|e| e.to_string())
}

fn warn_if_large(file: &NewFile, most: u64) {
    let bytes = file.bytes();
    if bytes > most {
        let (name, reason) = (name(&file.target), "a header or a single section needs them");
        tracing::warn!("`{name}` has {bytes} bytes, more than the {most} of the limit: {reason}");
    }
}

/// The numbers of the sections that begin a file of at most `most` bytes. `headers` are the lengths
/// of the header of the first file and of the others, without sections.
fn first_sections(leveled: &[(usize, Piece)], most: u64, headers: [u64; 2]) -> Vec<usize> {
    const PADDING: u64 = 7;
    let of_entry = |name: &str, spec: &TensorSpec| entry(name, spec, [u64::MAX; 2]).len() as u64;
    let (mut cuts, mut filled, mut current) = (vec![0], headers[0] + PADDING, 0);
    for (i, (level, piece)) in leveled.iter().enumerate() {
        let mut needed = of_entry(&piece.name, &piece.spec) + piece.spec.byte_len() as u64;
        if *level > current {
            current = *level;
            needed += of_entry(&padding_name(*level), &piece.spec) + PADDING;
        }
        if cuts.last().is_some_and(|begin| i > *begin) && filled + needed > most {
            cuts.push(i);
            filled = headers[1] + PADDING;
        }
        filled += needed;
    }
    cuts
}

/// The sections of each file. Zeros before each level but the first align its sections: within a
/// level they go from wide to narrow.
fn groups(leveled: Vec<(usize, Piece)>, cuts: &[usize]) -> Result<Vec<Group>, CodecError> {
    let (mut groups, mut group) = (Vec::with_capacity(cuts.len()), Group::default());
    let (mut filled, mut current, mut cuts) = (0usize, 0, cuts.iter().skip(1).peekable());
    for (i, (level, piece)) in leveled.into_iter().enumerate() {
        if cuts.next_if(|next| **next == i).is_some() {
            groups.push(std::mem::replace(&mut group, Group { level, pieces: Vec::new() }));
            filled = 0;
        }
        if level > current {
            current = level;
            let zeros = filled.next_multiple_of(8) - filled;
            let spec = TensorSpec::new(Dtype::U8, [zeros])?;
            let (name, content) = (padding_name(level), Content::Memory(vec![0; zeros]));
            group.pieces.push(Piece { name, spec, content });
            filled += zeros;
        }
        filled += piece.spec.byte_len();
        group.pieces.push(piece);
    }
    groups.push(group);
    Ok(groups)
}
