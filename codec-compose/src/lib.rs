//! Codecs around codecs, for any codec inside.
//!
//! | codec | what |
//! |---|---|
//! | [`residual(first,second)`](Residual) | the second codes what the first leaves |
//! | [`transpose(inner)`](Transpose) | the matrix on its side: what works by row then works by column |

pub mod residual;
pub mod transpose;

pub use residual::Residual;
pub use transpose::Transpose;
