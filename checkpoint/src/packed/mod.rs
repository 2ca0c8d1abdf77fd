//! The packed container; [`Packed`] describes the format.

mod base;
mod chunk;
mod compressed;
mod disk;
mod entry;
mod frame;
mod head;
mod levels;
mod locate;
mod manifest;
mod names;
mod open;
mod piece;
mod set;
mod tensor;
mod unpack;
mod verify;
mod writer;

pub use chunk::PackedChunk;
pub(crate) use chunk::place;
pub(crate) use compressed::head;
pub(crate) use disk::{Disk, INTERVAL, storing};
pub(crate) use entry::level_of;
pub(crate) use frame::compress;
pub(crate) use head::MAX_SHARDS;
pub use levels::PackedLevel;
pub(crate) use locate::{is_index_of, is_packed_file, named_like_shards, set_files_in_place_of};
pub use manifest::Hash;
pub(crate) use manifest::{
    BaseRecord, BaseTensorRecord, ChunkRecord, FileRecord, KEY, Kind, LevelRecord, MEMBER_KEY, Manifest, Member,
    ShardRecord, Shards, TensorRecord, checked, crc32c,
};
pub use names::PACKED_EXTENSION;
pub(crate) use names::{
    INDEX, header as header_name, index_in_place_of, is_packed_name, packed_file_of_index, padding as padding_name,
    parse_shard, section as section_name, set_index, shard as shard_path,
};
pub use open::Packed;
pub(crate) use open::is_packed;
pub(crate) use piece::Piece;
pub use set::PackedFile;
pub use tensor::PackedTensor;
pub use writer::safetensors_header;
pub use writer::{AtomicFile, is_temporary};
pub(crate) use writer::{MAX_HEADER, Sealed, create_directory, entry, header, sync_directory, write_file};
