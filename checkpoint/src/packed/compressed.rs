//! The manifest as a section: a Zstandard frame, the first section of a model in one file.
//!
//! As metadata, the text of a manifest would be a tenth of a small model. [`KEY`] then has what is
//! needed to read the section.

use codec_api::{Dtype, FormatVersion, TensorSpec};
use serde::{Deserialize, Serialize};

use super::frame;
use super::manifest::{KEY, Kind, crc32c};
use super::names::MANIFEST;
use super::writer::{MAX_HEADER, header};

/// Sections behind this one begin at multiples of so many bytes.
const ALIGNMENT: usize = 8;

/// The metadata string of a file whose manifest is a section.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compressed {
    kind: Kind,
    version: FormatVersion<2>,
    /// Length of the text of the manifest.
    bytes: u64,
    /// CRC-32C of the section.
    crc32c: u32,
}

/// The bytes of a packed file before the sections of its tensors: the header, and the manifest with
/// this text.
///
/// # Errors
/// A reason if the text exceeds the limits of the format.
pub(crate) fn head<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a TensorSpec)>,
    text: &str,
) -> Result<Vec<u8>, String> {
    let mut section = frame::compress(text.as_bytes())?;
    section.resize(section.len().next_multiple_of(ALIGNMENT), 0);
    let spec = TensorSpec::new(Dtype::U8, [section.len()]).map_err(|e| e.to_string())?;
    let (bytes, crc32c) = (text.len() as u64, crc32c(&section));
    let record = Compressed { kind: Kind::Packed, version: FormatVersion, bytes, crc32c };
    let record = serde_json::to_string(&record).map_err(|e| e.to_string())?;
    let tensors: Vec<_> = tensors.collect();
    let tensors = tensors.iter().map(|(name, spec)| (*name, *spec));
    let mut head = header([(MANIFEST, &spec)].into_iter().chain(tensors), (KEY, &record))?;
    head.extend(section);
    Ok(head)
}

impl Compressed {
    /// Reads the metadata string; `None` if it is the manifest itself.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The text of the manifest.
    ///
    /// # Errors
    /// What is wrong with the section.
    pub(super) fn text(&self, section: &[u8]) -> Result<String, String> {
        let read = || {
            frame::check(section, self.crc32c)?;
            let frame = zstd::Decoder::with_buffer(section).map_err(|e| e.to_string())?.single_frame();
            String::from_utf8(frame::decompress(frame, self.bytes, MAX_HEADER)?).map_err(|e| e.to_string())
        };
        read().map_err(|reason: String| format!("its section `{MANIFEST}`: {reason}"))
    }
}
