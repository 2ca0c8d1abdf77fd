//! Codecs that wrap any other codecs.
//!
//! | codec | what |
//! |---|---|
//! | [`hadamard(inner)`](Hadamard) | rows rotated at random: outliers are spread over their row |
//! | [`residual(first,second)`](Residual) | the second codec encodes the error of the first |
//! | [`transpose(inner)`](Transpose) | the transposed matrix: codecs of rows work by column |

pub mod hadamard;
pub mod residual;
pub mod transpose;

pub use hadamard::Hadamard;
pub use residual::Residual;
pub use transpose::Transpose;
