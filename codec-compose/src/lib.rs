//! Codecs that wrap any other codecs.
//!
//! | codec | what |
//! |---|---|
//! | [`hadamard(inner)`](Hadamard) | the inner codec encodes randomly rotated rows; the rotation spreads outliers over their row |
//! | [`residual(first,second)`](Residual) | the second codec encodes the error of the first |
//! | [`transpose(inner)`](Transpose) | the inner codec encodes the transposed matrix, so scales by row become scales by column |

pub mod hadamard;
pub mod residual;
pub mod transpose;

pub use hadamard::Hadamard;
pub use residual::Residual;
pub use transpose::Transpose;
