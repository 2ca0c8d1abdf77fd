//! Checks a packed model without writing anything.

use std::io::Read;

use codec_api::Progress;
use rayon::prelude::*;

use super::manifest::crc32c;
use super::open::{Packed, StoredFile};
use super::piece::Piece;
use super::writer::MAX_HEADER;
use crate::error::Error;
use crate::map::Meter;

impl Packed {
    /// Decodes everything and compares it with the stored checksums and hashes, on rayon's current
    /// pool. `progress` gets the number of decoded weights. Of a file that was cut off, it decodes
    /// each chunk at the last quality level that the file holds.
    ///
    /// Returns all faults, in the order of the tensors; none if the model is whole. Without the
    /// base that the model needs, that is the only fault.
    pub fn verify(&self, progress: &dyn Progress) -> Vec<Error> {
        if let Err(missing) = self.require_base() {
            return vec![missing];
        }
        let stored = self.stored_tensors();
        let pieces: Vec<_> =
            stored.flat_map(|tensor| tensor.pieces()).map(|piece| ((), piece.at_whole_level())).collect();
        let faults: Vec<Option<Error>> = self.for_all(&pieces, progress, |(), piece| piece.verify().err());
        let mut faults: Vec<Error> = faults.into_iter().flatten().collect();
        let files = self.files.iter().chain(&self.index);
        faults.extend(files.filter_map(|file| self.verbatim(file).err()));
        faults.extend(self.wrong_paddings());
        faults.extend(self.set.index_fault());
        if !self.levels[self.level].whole {
            faults.push(self.cut_off(self.level, ""));
        }
        faults
    }

    /// The paddings that are not zeros.
    pub(crate) fn wrong_paddings(&self) -> impl Iterator<Item = Error> {
        let wrong = self.paddings.iter().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        wrong.map(|(name, bytes)| self.damaged_section(bytes, format!("section `{name}`"), "it must be zeros"))
    }

    /// Calls `take`, which decodes a piece, with all pieces on rayon's current pool.
    pub(crate) fn for_all<T, R, C>(
        &self,
        pieces: &[(T, Piece<'_>)],
        progress: &dyn Progress,
        take: impl Fn(&T, &Piece<'_>) -> R + Sync,
    ) -> C
    where
        T: Sync,
        R: Send,
        C: FromParallelIterator<R>,
    {
        let meter = Meter::default();
        let decode = |(place, piece): &(T, Piece<'_>)| {
            let result = take(place, piece);
            progress.tick(piece.elements());
            meter.add(piece.byte_len(), || self.release());
            result
        };
        pieces.par_iter().map(decode).collect()
    }

    /// The verbatim bytes of a source file.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its frame is.
    pub(crate) fn verbatim(&self, file: &StoredFile) -> Result<Vec<u8>, Error> {
        self.set.check(&std::iter::once(&file.frame))?;
        let damaged = |reason: String| self.damaged_section(&file.frame, format!("section `{}`", file.section), reason);
        let (found, stored) = (crc32c(&file.frame), file.record.crc32c);
        if found != stored {
            return Err(damaged(format!("it has CRC-32C {found:08x}, stored is {stored:08x}")));
        }
        let (mut bytes, most) = (Vec::new(), MAX_HEADER as u64 + 8);
        let frame = zstd::Decoder::new(&*file.frame).map_err(|e| damaged(e.to_string()))?;
        // The buffer grows with the bytes that really come, and no further than a header may.
        frame.take(file.record.bytes.min(most) + 1).read_to_end(&mut bytes).map_err(|e| damaged(e.to_string()))?;
        if bytes.len() as u64 == file.record.bytes {
            return Ok(bytes);
        }
        Err(damaged(format!("it does not decompress to the {} bytes that it should hold", file.record.bytes)))
    }
}
