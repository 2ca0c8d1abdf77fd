//! Zstandard frames in sections.

use std::io::{BufRead, Read};

use super::manifest::crc32c;

/// Level of Zstandard.
const LEVEL: i32 = 19;

/// A frame of these bytes.
///
/// # Errors
/// Why they could not be compressed.
pub(crate) fn compress(bytes: &[u8]) -> Result<Vec<u8>, String> {
    zstd::bulk::compress(bytes, LEVEL).map_err(|e| e.to_string())
}

/// Compares a section with its stored checksum.
///
/// # Errors
/// If they differ, both.
pub(super) fn check(section: &[u8], stored: u32) -> Result<(), String> {
    match crc32c(section) {
        found if found == stored => Ok(()),
        found => Err(format!("it has CRC-32C {found:08x}, stored is {stored:08x}")),
    }
}

/// The bytes of a frame, which should be `bytes` of them and may be `most`.
///
/// # Errors
/// What is wrong with the frame.
pub(super) fn decompress(frame: zstd::Decoder<'_, impl BufRead>, bytes: u64, most: usize) -> Result<Vec<u8>, String> {
    let mut found = Vec::new();
    // The buffer grows with the bytes that really come.
    frame.take(bytes.min(most as u64) + 1).read_to_end(&mut found).map_err(|e| e.to_string())?;
    if found.len() as u64 == bytes {
        return Ok(found);
    }
    Err(format!("it does not decompress to the {bytes} bytes that it should hold"))
}
