//! Sparse tensors: codecs that store the non-zero elements and their positions, and one that
//! prunes.
//!
//! | codec | positions | what |
//! |---|---|---|
//! | [`sparse.csr`](Csr) | under 1, 1, 2 or 4 bytes a value | compressed sparse rows, by `index` |
//! | [`sparse.coo`](Coo) | 2 bytes a value | flat coordinates in blocks |
//! | [`sparse.bitmap`](Bitmap) | 1 bit an element | a bit for each element |
//! | [`sparse.nm`](Nm) | ⌈log₂ M⌉ bits a value | N of each M neighbours, for instance 2:4 |
//! | [`sparse`](Sparse) | the fewest | the smallest of the first three |
//! | [`sparse.prune`](Prune) | – | sets small weights to zero, for another codec |
//!
//! The key `index` of `sparse.csr` selects how columns are stored: `coded` (entropy-coded gaps),
//! `gap` (plain gaps), `narrow` (columns in 8 or 16 bits) or `u32` (columns in 32 bits, as in
//! `SciPy`).
//!
//! In all these codecs, an inner codec stores the values, as a separate tensor. If the inner codec
//! is exact, the sparse codec is exact too, for every dtype.
//!
//! A sparse codec falls back to its inner codec for the whole tensor if positions and values would
//! not cost less, or if the inner codec refuses the separate tensor of the values. So it encodes
//! every tensor that its inner codec encodes. The comparison uses the upper bounds of the inner
//! codec's costs; the actual payload of a codec of variable rate may be far smaller.
//!
//! The sparse codecs read any rows, and multiply with the stored values only. Opening a payload
//! decodes all values, and checks positions and checksum as decoding does. If the payload holds the
//! dense tensor, the inner codec reads the rows. A sparse codec has an operator if its inner codec
//! can read rows or has an operator. If the payload holds the dense tensor, the inner codec
//! multiplies.
//! `sparse.prune` has the rows and the operator of its inner codec.

pub mod bitmap;
mod coder;
pub mod coo;
pub mod csr;
mod form;
mod grid;
mod mask;
mod matrix;
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
