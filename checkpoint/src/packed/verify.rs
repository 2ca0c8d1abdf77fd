//! Checks a packed model without writing anything.

use std::io::Read;

use codec_api::Progress;
use rayon::prelude::*;

use super::manifest::crc32c;
use super::open::{Packed, StoredFile};
use super::tensor::PackedChunk;
use super::writer::MAX_HEADER;
use crate::error::Error;

impl Packed {
    /// Decodes everything and compares it with the stored checksums and hashes, on rayon's current
    /// pool. `progress` gets the number of decoded weights.
    ///
    /// Returns all faults, in the order of the tensors; none if the model is whole.
    pub fn verify(&self, progress: &dyn Progress) -> Vec<Error> {
        let chunks: Vec<PackedChunk<'_>> =
            self.tensors().filter(|tensor| tensor.same_as().is_none()).flat_map(|tensor| tensor.chunks()).collect();
        let check = |chunk: &PackedChunk<'_>| {
            let fault = chunk.decode_bytes().err();
            progress.tick(chunk.spec().elements() as u64);
            fault
        };
        let mut faults: Vec<Error> = chunks.par_iter().filter_map(check).collect();
        let files = self.files.iter().chain(&self.index);
        faults.extend(files.filter_map(|file| self.verbatim(file).err()));
        for (name, bytes) in &self.paddings {
            if bytes.iter().any(|byte| *byte != 0) {
                faults.push(self.damaged(format!("section `{name}`"), "it must be zeros"));
            }
        }
        faults
    }

    /// The verbatim bytes of a source file.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its frame is.
    pub(crate) fn verbatim(&self, file: &StoredFile) -> Result<Vec<u8>, Error> {
        self.check_length()?;
        let damaged = |reason: String| self.damaged(format!("section `{}`", file.section), reason);
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
