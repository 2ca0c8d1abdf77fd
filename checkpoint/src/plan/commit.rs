//! Puts the parts of a plan together.

use std::cmp::Reverse;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use codec_api::{Codec, Dtype, FormatVersion, NoProgress, Progress, Registry, TensorSpec};

use super::Plan;
use super::base::PlannedBase;
use super::copy::{Filled, fill};
use super::parts::{Done, Part, is_part};
use super::source::SourceFile;
use crate::companions::Companions;
use crate::error::Error;
use crate::layout::directory;
use crate::packed::{
    BaseRecord, ChunkRecord, FileRecord, INDEX, Kind, Manifest, Packed, Sealed, TensorRecord, compress, crc32c,
    create_directory, header_name, is_temporary, level_of, section_name,
};

/// A section of the packed file.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) spec: TensorSpec,
    pub(super) content: Content,
}

/// The verbatim bytes of the source files beside tensors, and what the manifest says of them.
pub(super) struct Frames {
    pub(super) pieces: Vec<Piece>,
    pub(super) files: Vec<FileRecord>,
    pub(super) index: Option<FileRecord>,
}

/// Where the bytes of a section are.
pub(super) enum Content {
    /// Offset in the part of a unit.
    Part {
        unit: usize,
        offset: u64,
    },
    Memory(Vec<u8>),
}

impl Piece {
    /// Name, dtype and shape for the header.
    pub(super) fn entry(&self) -> (&str, &TensorSpec) {
        (&self.name, &self.spec)
    }
}

impl Plan {
    /// Puts the parts together under the target's name, or the names of its shards, and removes
    /// them. Before, it copies the files beside the model. An older target is replaced. A second
    /// commit finds the target of the first one and does nothing.
    ///
    /// With `verify`, the new file is opened and decoded before it gets its name, and compared with
    /// the source: names, dtypes, shapes, equal tensors, headers, index, and hashes. The hash of an
    /// exact tensor is that of its source, and the certificate of a lossy one belongs to the bytes
    /// that have its hash ([`Self::run_unit`]). So the new file is what it states, although
    /// the values of the source are not read again. `verify` gets the number of decoded weights.
    ///
    /// # Errors
    /// [`Error::Plan`] if parts are missing or damaged, or another commit is running;
    /// [`Error::Changed`] if the source has changed; [`Error::Damaged`] or [`Error::Differs`] if
    /// the new file is not what it should be; [`Error::Write`].
    pub fn commit(&self, registry: &Registry, verify: Option<&dyn Progress>) -> Result<(), Error> {
        if !self.parts().exists() && self.is_committed(registry) {
            return Ok(());
        }
        if self.units() > 0 && !self.parts().exists() {
            self.whole_parts()?;
        }
        // A model without tensors has no parts.
        create_directory(&self.parts())?;
        let _lock = self.lock()?;
        let parts = self.whole_parts()?;
        if verify.is_none() {
            // The check of the new file would compare every checksum.
            self.check_parts()?;
        }
        self.base.as_ref().map_or(Ok(()), PlannedBase::check)?;
        let (leveled, manifest) = self.contents(&parts, registry)?;
        let files = self.divide(leveled, manifest)?;
        let begun = files.iter().map(|file| self.begin(file)).collect::<Result<Vec<_>, _>>()?;
        let index = self.write_index(&files)?;
        let written = match verify {
            None => fill(&files, begun, &parts, &NoProgress, |_| ())?.0,
            Some(progress) => {
                let packed = self.open_begun(&begun, registry)?;
                let check = |filled: &Filled| self.check_files(&packed, filled, progress);
                let (written, checked) = fill(&files, begun, &parts, progress, check)?;
                checked?;
                written
            }
        };
        self.copy_companions(verify.is_some())?;
        self.publish(written, index)?;
        tracing::info!(target = %self.target.display(), "committed");
        self.remove_parts()
    }

    /// Opens the new files, which have their heads, and whose sections are still to come.
    fn open_begun(&self, files: &[Sealed], registry: &Registry) -> Result<Packed, Error> {
        let paths: Vec<&Path> = files.iter().map(Sealed::path).collect();
        Packed::open_all(&paths, registry)?.with_bases(&self.bases(), registry)
    }

    /// Checks the new files, each section as soon as it is there.
    fn check_files(&self, packed: &Packed, filled: &Filled, progress: &dyn Progress) -> Result<(), Error> {
        let wrong = packed.verify_tensors(progress, |end| filled.wait(end));
        if !filled.wait(packed.file_bytes()) {
            // The copy has failed, and says why.
            return Ok(());
        }
        Error::check(progress)?;
        let mut faults = self.differences(packed)?;
        faults.extend(wrong);
        faults.extend(packed.verify_rest());
        match faults.into_iter().next() {
            // A damaged part has a remedy.
            Some(fault) => self.check_parts().and(Err(fault)),
            None => Ok(()),
        }
    }

    /// Whether the target is there and is what this plan makes, by everything but its values.
    pub fn is_committed(&self, registry: &Registry) -> bool {
        let recipe = serde_json::to_string(&self.recipe).unwrap_or_default();
        let is_whole = |packed: &Packed| {
            (packed.program(), packed.seed, packed.recipe()) == (&*self.program, self.seed, &*recipe)
                && self.has_shards_of(packed)
                && self.differences(packed).is_ok_and(|faults| faults.is_empty())
        };
        let written = self.written();
        written.exists() && Packed::open(&written, registry).is_ok_and(|packed| is_whole(&packed))
    }

    /// Copies the files beside the model, before the packed file says that the directory is whole.
    fn copy_companions(&self, verify: bool) -> Result<(), Error> {
        if self.companions.is_empty() {
            return Ok(());
        }
        let files = Companions::of(&self.source.directory, directory(&self.target), self.companions.clone());
        files.copy()?;
        match files.faults()?.pop().filter(|_| verify) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Removes the parts and what interrupted runs have left, and the folder unless it holds files
    /// of others.
    fn remove_parts(&self) -> Result<(), Error> {
        let folder = self.parts();
        let failed = |error| Error::write(&folder, error);
        for file in fs::read_dir(&folder).map_err(failed)? {
            let file = file.map_err(failed)?;
            let name = file.file_name().to_string_lossy().into_owned();
            if is_part(&name) || is_temporary(&name) {
                fs::remove_file(file.path()).map_err(failed)?;
            }
        }
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// The sections in their order, each with its quality level, and the manifest.
    fn contents(&self, parts: &[Part], registry: &Registry) -> Result<(Vec<(usize, Piece)>, Manifest), Error> {
        let codecs = self.make_codecs(registry)?;
        let mut leveled = Vec::new();
        let mut chunks: Vec<Vec<ChunkRecord>> = self.tensors.iter().map(|_| Vec::new()).collect();
        for (unit, part) in parts.iter().enumerate() {
            for done in &part.chunks {
                leveled.extend(self.pieces(unit, part, done, &*codecs[done.record.codec])?);
                chunks[done.tensor].push(done.record.clone());
            }
        }
        let Frames { pieces, files, index } = self.frames()?;
        // The first level needs them, and bytes need no alignment.
        leveled.extend(pieces.into_iter().map(|frame| (0, frame)));
        // The sort is stable: sections of equal level and width stay in the order of tensors.
        leveled.sort_by_key(|(level, piece)| (*level, Reverse(width(piece.spec.dtype()))));
        Ok((leveled, self.manifest(files, index, chunks)?))
    }

    /// The sections of headers and index, and their records.
    pub(super) fn frames(&self) -> Result<Frames, Error> {
        let (files, index) = (self.headers()?, self.source.read_index()?);
        let stored = files.iter().enumerate().map(|(i, bytes)| self.verbatim(header_name(i), bytes));
        let index = index.as_deref().map(|bytes| self.verbatim(INDEX.to_owned(), bytes)).transpose()?;
        let (records, mut pieces): (Vec<_>, Vec<_>) = stored.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let record =
            |(crc32c, bytes): (u32, u64), file: &SourceFile| FileRecord { name: file.name.clone(), bytes, crc32c };
        let files = records.into_iter().zip(&self.source.files).map(|(found, file)| record(found, file)).collect();
        let index = index.zip(self.source.index.as_ref()).map(|((found, frame), file)| {
            pieces.push(frame);
            record(found, file)
        });
        Ok(Frames { pieces, files, index })
    }

    pub(super) fn manifest(
        &self,
        files: Vec<FileRecord>,
        index: Option<FileRecord>,
        chunks: Vec<Vec<ChunkRecord>>,
    ) -> Result<Manifest, Error> {
        let tensor = |(tensor, chunks): (&super::PlannedTensor, Vec<ChunkRecord>)| TensorRecord {
            name: tensor.name.clone(),
            file: tensor.file,
            dtype: tensor.spec.dtype(),
            shape: tensor.spec.shape().to_vec(),
            same_as: tensor.same_as.map(|other| self.tensors[other].name.clone()),
            base: tensor.base,
            tried: tensor.tried.clone(),
            chunks,
        };
        let base = self.base.as_ref().map(|base| BaseRecord {
            name: base.name.clone(),
            hint: base.hint(directory(&self.target)),
            tensors: base.tensors.clone(),
        });
        let recipe = serde_json::value::to_raw_value(&self.recipe).map_err(|e| self.wrong(e.to_string()))?;
        Ok(Manifest {
            kind: Kind::Packed,
            version: FormatVersion,
            program: self.program.clone(),
            seed: self.seed,
            recipe,
            files,
            index,
            base,
            shards: None,
            codecs: self.codecs.clone(),
            tensors: self.tensors.iter().zip(chunks).map(tensor).collect(),
        })
    }

    /// The sections of a chunk, each with its quality level.
    fn pieces(&self, unit: usize, part: &Part, done: &Done, codec: &dyn Codec) -> Result<Vec<(usize, Piece)>, Error> {
        let tensor = &self.tensors[done.tensor];
        let spec = tensor.spec.with_rows(tensor.rows(done.chunk).len()).map_err(|e| self.wrong(e.to_string()))?;
        let levels = codec.levels(&spec);
        let mut pieces = Vec::new();
        for section in done.record.sections.keys() {
            let level = level_of(&levels, section);
            let name = section_name(&tensor.name, done.chunk, section);
            let Some((spec, offset)) = part.sections.get(&name) else {
                return Err(self.wrong(format!("the part of unit {unit} lacks `{name}`; run the unit again")));
            };
            let content = Content::Part { unit, offset: *offset };
            pieces.push((level, Piece { name, spec: spec.clone(), content }));
        }
        Ok(pieces)
    }

    /// Checksum, length and section of the verbatim bytes of a source file.
    fn verbatim(&self, name: String, bytes: &[u8]) -> Result<((u32, u64), Piece), Error> {
        let frame = compress(bytes).map_err(|reason| self.wrong(reason))?;
        let spec = TensorSpec::new(Dtype::U8, [frame.len()]).map_err(|e| self.wrong(e.to_string()))?;
        Ok(((crc32c(&frame), bytes.len() as u64), Piece { name, spec, content: Content::Memory(frame) }))
    }
}

/// Bytes of an element; at least one.
fn width(dtype: Dtype) -> usize {
    (dtype.bitsize() / 8).max(1)
}
