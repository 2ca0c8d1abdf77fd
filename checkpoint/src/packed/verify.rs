//! Checks a packed model without writing anything.

use codec_api::Progress;
use rayon::prelude::*;

use super::frame;
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
    /// base that the model needs, that is the only fault. Pieces that are left when `progress`
    /// cancels the work have the fault [`Error::Cancelled`].
    pub fn verify(&self, progress: &dyn Progress) -> Vec<Error> {
        if let Err(missing) = self.require_base() {
            return vec![missing];
        }
        let mut faults = self.verify_tensors(progress, |_| true);
        faults.extend(self.verify_rest());
        faults
    }

    /// As [`Self::verify`], for tensors alone. `wait` gets the end of the sections of each chunk
    /// before it is read, in all files one after the other, and returns whether they are there;
    /// a chunk that is not is left out.
    pub(crate) fn verify_tensors(&self, progress: &dyn Progress, wait: impl Fn(u64) -> bool + Sync) -> Vec<Error> {
        let stored = self.stored_tensors();
        let pieces: Vec<_> =
            stored.flat_map(|tensor| tensor.pieces()).map(|piece| ((), piece.at_whole_level())).collect();
        let verify = |(): &(), piece: &Piece<'_>| {
            let checked = Error::check(progress);
            if wait(piece.end()) { checked.and_then(|()| piece.verify()).err() } else { None }
        };
        let faults: Vec<Option<Error>> = self.for_all(&pieces, progress, verify);
        faults.into_iter().flatten().collect()
    }

    /// As [`Self::verify`], for everything but the tensors.
    pub(crate) fn verify_rest(&self) -> Vec<Error> {
        let mut faults: Vec<Error> = Vec::new();
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
        pieces.par_iter().with_max_len(1).map(decode).collect()
    }

    /// The verbatim bytes of a source file.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its frame is.
    pub(crate) fn verbatim(&self, file: &StoredFile) -> Result<Vec<u8>, Error> {
        self.set.check(&std::iter::once(&file.frame))?;
        let damaged = |reason: String| self.damaged_section(&file.frame, format!("section `{}`", file.section), reason);
        frame::check(&file.frame, file.record.crc32c).map_err(damaged)?;
        let frame = zstd::Decoder::with_buffer(&*file.frame).map_err(|e| damaged(e.to_string()))?;
        // No longer than a header may be, with the length before it.
        frame::decompress(frame, file.record.bytes, MAX_HEADER + 8).map_err(damaged)
    }
}
