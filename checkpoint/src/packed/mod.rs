//! The packed container; [`Packed`] describes the format.

mod base;
mod chunk;
mod entry;
mod levels;
mod manifest;
mod names;
mod open;
mod piece;
mod tensor;
mod unpack;
mod verify;
mod writer;

pub use chunk::PackedChunk;
pub(crate) use chunk::place;
pub(crate) use entry::level_of;
pub use levels::PackedLevel;
pub use manifest::Hash;
pub(crate) use manifest::{
    BaseRecord, BaseTensorRecord, ChunkRecord, FileRecord, KEY, Kind, LevelRecord, Manifest, TensorRecord, checked,
    crc32c,
};
pub(crate) use names::{INDEX, header as header_name, padding as padding_name, section as section_name};
pub(crate) use open::is_packed;
pub use open::{PACKED_EXTENSION, Packed};
pub(crate) use piece::Piece;
pub use tensor::PackedTensor;
pub(crate) use writer::{AtomicFile, MAX_HEADER, create_directory, header, is_temporary, write_file};
