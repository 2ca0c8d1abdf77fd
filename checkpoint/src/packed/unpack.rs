//! Writes the source files of a packed model back.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use codec_api::Progress;

use super::open::Packed;
use super::tensor::PackedChunk;
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
    /// [`Error::Unfit`] if the packed file would be replaced; [`Error::Write`].
    pub fn unpack(&self, directory: &Path, progress: &dyn Progress) -> Result<(), Error> {
        for (number, file) in self.files.iter().enumerate() {
            self.unpack_file(number, &directory.join(&file.record.name), progress)?;
        }
        let Some(index) = &self.index else { return Ok(()) };
        write_file(&directory.join(&index.record.name), &self.verbatim(index)?)
    }

    /// As [`Self::unpack`], for a model with one source file, which gets the name `target`.
    ///
    /// # Errors
    /// As [`Self::unpack`]; [`Error::Unfit`] if the source has several files.
    pub fn unpack_single(&self, target: &Path, progress: &dyn Progress) -> Result<(), Error> {
        if let ([_], None) = (&*self.files, &self.index) {
            return self.unpack_file(0, target, progress);
        }
        let reason = format!("the model has {} files and an index; give a directory", self.files.len());
        Err(Error::unfit(target, reason))
    }

    /// Writes source file number `number`.
    fn unpack_file(&self, number: usize, target: &Path, progress: &dyn Progress) -> Result<(), Error> {
        let folder = directory(target);
        create_directory(folder)?;
        let identity = |path: &Path| FileIdentity::of(path).map_err(|e| Error::io(path, e));
        if identity(target)? == identity(self.path())? {
            return Err(Error::unfit(target, "it is the packed file itself; give another target"));
        }
        let header = self.verbatim(&self.files[number])?;
        let mut file = AtomicFile::create(target)?;
        file.write(&header)?;
        let (places, file) = (self.places(number, header.len() as u64), Mutex::new(file));
        let write = |offset: &u64, _: &PackedChunk<'_>, decoded: Result<Vec<u8>, Error>| {
            file.lock().unwrap_or_else(PoisonError::into_inner).write_at(*offset, &decoded?)
        };
        self.decode_all::<_, _, Result<(), Error>>(&places, &[], progress, write)?;
        file.into_inner().unwrap_or_else(PoisonError::into_inner).commit()
    }

    /// The chunks of source file number `number`, each with its offset in the file. Tensors are in
    /// the order of their offsets, and safetensors files have no gaps.
    fn places(&self, number: usize, start: u64) -> Vec<(u64, PackedChunk<'_>)> {
        let mut offset = start;
        let mut places = Vec::new();
        for tensor in self.tensors().filter(|tensor| tensor.file() == number) {
            for chunk in tensor.chunks() {
                places.push((offset, chunk));
                offset += chunk.spec().byte_len() as u64;
            }
        }
        places
    }
}
