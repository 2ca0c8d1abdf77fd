//! Sparse tensors: codecs that store the non-zero elements and their positions, and one that
//! prunes.
//!
//! | codec | positions | what |
//! |---|---|---|
//! | [`sparse.csr`](Csr) | under 1, 1, 2 or 4 bytes a value | compressed sparse rows, by `index` |
//! | [`sparse.coo`](Coo) | 2 bytes a value | flat coordinates in blocks |
//! | [`sparse.bitmap`](Bitmap) | 1 bit an element | a bit for each element |
//! | [`sparse.nm`](Nm) | ⌈log₂ M⌉ bits a value | N of each M neighbours, as 2:4 |
//! | [`sparse`](Sparse) | the fewest | the smallest of the first three |
//! | [`sparse.prune`](Prune) | – | sets small weights to zero, for another codec |
//!
//! The `index` of `sparse.csr` is `coded` or plain gaps, narrow columns, or columns as in `SciPy`.
//!
//! All codecs store the values through another codec, as a tensor of their own. With an exact inner
//! codec they are exact, for every dtype.
//!
//! A sparse codec falls back to its inner codec for the whole tensor if positions and values would
//! not cost less, or if the inner codec refuses the values alone. So it encodes every tensor that
//! its inner codec encodes. The comparison uses the upper bounds of the inner codec's costs; the
//! actual payload of a codec of variable rate may be far smaller.
//!
//! Linear operators check that positions are valid. They never produce the bytes of the whole
//! tensor, so only decoding verifies its checksum.

pub mod bitmap;
mod coder;
pub mod coo;
pub mod csr;
mod form;
mod grid;
mod linear;
mod mask;
pub mod nm;
pub mod prune;
mod scatter;
pub mod sparse;

pub use bitmap::Bitmap;
pub use coo::Coo;
pub use csr::{Csr, Index};
pub use nm::Nm;
pub use prune::Prune;
pub use sparse::Sparse;
