//! The packed container: a whole model, each tensor encoded by a codec, in one safetensors file.
//!
//! Any safetensors reader lists its sections. A section of a tensor is stored as
//! `TENSOR/CHUNK/SECTION` ([`Packed`] documents the rest): large tensors are encoded in chunks of
//! rows, so that they decode in parallel and in part. `__metadata__` has two strings:
//! - `netweight`: the manifest, JSON. For every tensor: its dtype and shape, its source file, and
//!   its chunks with codec, certificate, blake3 of the decoded bytes and CRC-32C of each section,
//!   or the name of the tensor with the same bytes. For every source file: its name.
//! - `netweight.crc32c`: CRC-32C of the manifest, eight hexadecimal digits.
//!
//! Further sections hold what the source files consist of beside tensors, as Zstandard frames:
//! `__netweight__/header/N` the header of source file `N` byte for byte, `__netweight__/index` the
//! index. So a model of exact codecs comes back byte for byte.
//!
//! Sections are ordered by quality level, then from wide to narrow dtypes, then by tensor, so that
//! the first bytes of the file are a coarse model, and every section is aligned to its dtype.

mod entry;
mod manifest;
mod names;
mod open;
mod tensor;
mod verify;
mod writer;

pub use manifest::Hash;
pub(crate) use manifest::{CRC_KEY, ChunkRecord, FileRecord, KEY, Kind, Manifest, TensorRecord, crc32c};
pub(crate) use names::{INDEX, header as header_name, padding as padding_name, section as section_name};
pub(crate) use open::is_packed;
pub use open::{EXTENSION, Packed};
pub use tensor::{PackedChunk, PackedTensor};
pub(crate) use writer::{AtomicFile, MAX_HEADER, create_directory, header, write_file};
