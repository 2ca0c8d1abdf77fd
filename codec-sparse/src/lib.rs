//! Sparse tensors: what is not zero, and where it is. And a codec that makes tensors sparse.
//!
//! | codec | positions | what |
//! |---|---|---|
//! | [`sparse.csr`](Csr) | under 1, 1, 2 or 4 bytes a value | compressed sparse rows: coded gaps, gaps, narrow columns, or as `SciPy` has them |
//! | [`sparse.coo`](Coo) | 2 bytes a value | flat coordinates in blocks |
//! | [`sparse.bitmap`](Bitmap) | 1 bit an element | a bit for each element |
//! | [`sparse.nm`](Nm) | ⌈log₂ M⌉ bits a value | N of each M neighbours, as 2:4 |
//! | [`sparse`](Sparse) | the fewest | the smallest of the first three |
//! | [`sparse.prune`](Prune) | – | sets small weights to zero and leaves the rest to another codec |
//!
//! All store the values through another codec, as a tensor of their own. With an exact one they are exact, for every dtype.
//! Their operators check positions for sense and leave the checksum of the whole tensor, whose bytes they never make, to decoding.

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
