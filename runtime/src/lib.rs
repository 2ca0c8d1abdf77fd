//! Multiplying with encoded weights.
//!
//! [`operator`] makes a linear operator of any encoded tensor. If the codec has no operator of its
//! own, the result is a [`RowsMatrix`], which decodes a few rows at a time and multiplies with
//! them.

mod rows;

use codec_api::{DecodeCx, EncodedTensor, LinearOp, Result};

pub use rows::RowsMatrix;

/// The linear operator of an encoded tensor: that of its codec ([`codec_api::Codec::as_linear`]) or
/// the generic one.
///
/// # Errors
/// As [`EncodedTensor::open_rows`].
pub fn operator(encoded: &EncodedTensor, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
    match encoded.own_operator(cx)? {
        Some(operator) => Ok(operator),
        None => Ok(Box::new(RowsMatrix::new(encoded.open_rows(cx)?))),
    }
}
