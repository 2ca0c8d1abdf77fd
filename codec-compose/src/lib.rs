//! Codecs around codecs, for any codec inside.
//!
//! | codec | what |
//! |---|---|
//! | [`hadamard(inner)`](Hadamard) | rows rotated at random: outliers are spread over their row |
//! | [`residual(first,second)`](Residual) | the second codes what the first leaves |
//! | [`transpose(inner)`](Transpose) | the matrix on its side: what works by row then works by column |

pub mod hadamard;
pub mod residual;
pub mod transpose;

pub use hadamard::Hadamard;
pub use residual::Residual;
pub use transpose::Transpose;
