//! What is in a model: names, shapes, codecs, sizes and errors. Serialised, these are the keys of
//! `netweight info --json`.

mod changed;
mod dense;
mod packed;

pub use changed::{ChangedContents, DtypeAndShape};
pub use dense::{ComputedContents, DenseContents, DtypeShare, TensorContents};
pub use packed::{Base, Level, PackedContents, PackedTensorContents, Shard, Share};
