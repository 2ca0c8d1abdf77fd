//! Writes the source files of a packed model back.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use codec_api::Progress;

use super::disk::storing;
use super::open::Packed;
use super::piece::Piece;
use super::writer::{AtomicFile, create_directory, write_file};
use crate::error::Error;
use crate::identity::FileIdentity;
use crate::layout::directory;

impl Packed {
    /// Writes all source files, and the index of a sharded source, into a directory, on rayon's
    /// current pool. `progress` gets the number of decoded weights. Each file appears whole or not
    /// at all, the index last. Files of these names are replaced.
    ///
    /// The headers are those of the source, byte for byte, and so are the tensors of exact codecs.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a section or a decoded tensor with a wrong checksum or hash;
    /// [`Error::Unfit`] if the packed file or its base would be replaced; [`Error::Base`] without
    /// the base; [`Error::Write`].
    pub fn unpack(&self, directory: &Path, progress: &dyn Progress) -> Result<(), Error> {
        for (number, file) in self.files.iter().enumerate() {
            let target = directory.join(&file.record.name);
            self.prepare(&target)?;
            self.unpack_file(number, &target, progress)?;
        }
        let Some(index) = &self.index else { return Ok(()) };
        let target = directory.join(&index.record.name);
        self.prepare(&target)?;
        write_file(&target, &self.verbatim(index)?)
    }

    /// As [`Self::unpack`], for a model with one source file, which gets the name `target`.
    ///
    /// # Errors
    /// As [`Self::unpack`]; [`Error::Unfit`] if the source has several files.
    pub fn unpack_single(&self, target: &Path, progress: &dyn Progress) -> Result<(), Error> {
        if !self.is_single() {
            let reason = format!("the model has {} files and an index; give a directory", self.files.len());
            return Err(Error::unfit(target, reason));
        }
        self.prepare(target)?;
        self.unpack_file(0, target, progress)
    }

    /// Replaces the base, a dense model in one file, by this model. The file of the base keeps its
    /// old content until the new one is whole, checked and on the disk. Returns its path.
    ///
    /// # Errors
    /// As [`Self::unpack`]; [`Error::Unfit`] if there is no such base, or this model is not one
    /// file: several files cannot be replaced in the same instant.
    pub fn unpack_in_place(&self, progress: &dyn Progress) -> Result<PathBuf, Error> {
        self.require_base()?;
        let Some(target) = self.dense_base().filter(|_| self.is_single()) else {
            let reason = "only a model in one dense file can be replaced in place; give another target (`-o`)";
            return Err(Error::unfit(self.base_path().unwrap_or(self.path()), reason));
        };
        self.unpack_file(0, target, progress)?;
        Ok(target.to_owned())
    }

    /// Whether the source is one file.
    fn is_single(&self) -> bool {
        matches!((&*self.files, &self.index), ([_], None))
    }

    /// Checks that the base is there, and that the target is neither the packed file nor one of the
    /// base. Creates the folder of the target.
    fn prepare(&self, target: &Path) -> Result<(), Error> {
        self.require_base()?;
        create_directory(directory(target))?;
        let identity = |path: &Path| FileIdentity::of(path).map_err(|e| Error::io(path, e));
        let found = identity(target)?;
        for file in self.paths() {
            if identity(&file)? == found {
                return Err(Error::unfit(target, "it is the packed file itself; give another target"));
            }
        }
        for base in self.base_files() {
            if identity(&base)? == found {
                let reason = "it is a file of the base; give another target, or replace it with `apply --in-place`";
                return Err(Error::unfit(target, reason));
            }
        }
        Ok(())
    }

    /// Writes source file number `number`.
    fn unpack_file(&self, number: usize, target: &Path, progress: &dyn Progress) -> Result<(), Error> {
        let header = self.verbatim(&self.files[number])?;
        let mut file = AtomicFile::create(target)?;
        file.write(&header)?;
        let (places, begun, file) = (self.places(number, header.len() as u64), file.disk()?, Mutex::new(file));
        let write = |offset: &u64, piece: &Piece<'_>| {
            Error::check(progress)?;
            let decoded = piece.decode()?;
            file.lock().unwrap_or_else(PoisonError::into_inner).write_at(*offset, &decoded)
        };
        storing(|disk| {
            disk.store(begun);
            self.for_all::<_, _, Result<(), Error>>(&places, progress, write)
        })?;
        file.into_inner().unwrap_or_else(PoisonError::into_inner).commit()
    }

    /// The pieces of source file number `number`, each with its offset in the file. Tensors are in
    /// the order of their offsets, and safetensors files have no gaps.
    fn places(&self, number: usize, start: u64) -> Vec<(u64, Piece<'_>)> {
        let mut offset = start;
        let mut places = Vec::new();
        for tensor in self.tensors().filter(|tensor| tensor.file() == number) {
            for piece in tensor.pieces() {
                let bytes = piece.byte_len();
                places.push((offset, piece));
                offset += bytes;
            }
        }
        places
    }
}
