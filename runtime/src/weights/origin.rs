//! What an operator is made from, so that it can be made again.

use std::hint::black_box;
use std::sync::Arc;

use codec_api::{Bytes, Codec, DecodeCx, Dtype, EncodedTensor, LinearOp, Product, Result, Section};

use super::dense::{Dense, DenseMatrix};

/// Bytes from one page of a memory map to the next, at least.
const PAGE: usize = 4096;

/// The stored weights of an operator. They were checked before.
#[derive(Debug)]
pub(super) enum Origin {
    /// A matrix that is decoded to its stored dtype.
    Dense { parts: Vec<Part>, dtype: Dtype, rows: usize, columns: usize, form: Form },
    /// A chunk that stays packed, and the product that its operator is for.
    Packed(EncodedTensor, Product),
}

/// What is made of a dense matrix.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Same,
    /// Rows become columns.
    Turned,
    /// Rows become columns, and an exact codec encodes them.
    Encoded(Arc<dyn Codec>),
}

impl Form {
    /// The operator of the matrix in this form, for forward products.
    ///
    /// # Errors
    /// Those of the codec; [`codec_api::CodecError::Limit`] without enough memory.
    pub(super) fn operator(&self, dense: Dense) -> Result<Box<dyn LinearOp>> {
        let dense = match self {
            Self::Same => dense,
            Self::Turned => dense.transposed()?,
            Self::Encoded(codec) => {
                let encoded = dense.transposed()?.encode(Arc::clone(codec))?;
                return crate::operator(&encoded, &DecodeCx::new());
            }
        };
        Ok(Box::new(DenseMatrix::new(Arc::new(dense))))
    }
}

/// Some rows of a dense matrix.
#[derive(Debug)]
pub(super) enum Part {
    /// In their stored dtype.
    Stored(Bytes),
    /// Encoded without a base.
    Encoded(EncodedTensor),
}

impl Origin {
    /// Makes the operator. All pages are read that it or its products need.
    ///
    /// # Errors
    /// Those of the codecs.
    pub(super) fn load(&self) -> Result<Box<dyn LinearOp>> {
        match self {
            Self::Dense { parts, dtype, rows, columns, form } => {
                form.operator(dense(parts, *dtype, (*rows, *columns))?)
            }
            Self::Packed(encoded, product) => {
                if self.is_read_by_products() {
                    self.stored().for_each(touch);
                }
                crate::operator(encoded, &DecodeCx::new().for_product(*product))
            }
        }
    }

    /// Whether products read the stored bytes. Otherwise these are needed no more after
    /// [`Self::load`].
    pub(super) fn is_read_by_products(&self) -> bool {
        matches!(self, Self::Packed(encoded, _)
            if encoded.codec.as_linear().is_none() || crate::is_for_vectors(encoded))
    }

    /// The stored bytes.
    pub(super) fn stored(&self) -> impl Iterator<Item = &[u8]> {
        let (parts, packed) = match self {
            Self::Dense { parts, .. } => (&**parts, None),
            Self::Packed(encoded, _) => (&[][..], Some(encoded)),
        };
        let plain = parts.iter().filter_map(|part| if let Part::Stored(bytes) = part { Some(&**bytes) } else { None });
        let encoded = parts.iter().filter_map(|part| if let Part::Encoded(part) = part { Some(part) } else { None });
        let sections = encoded.chain(packed).flat_map(|encoded| encoded.payload.sections().values());
        plain.chain(sections.map(Section::data).map(|data| &**data))
    }
}

fn dense(parts: &[Part], dtype: Dtype, (rows, columns): (usize, usize)) -> Result<Dense> {
    let mut dense = Dense::zeros(dtype, rows, columns)?;
    let mut rest = dense.bytes_mut();
    for part in parts {
        match part {
            Part::Stored(bytes) => {
                let (first, others) = rest.split_at_mut(bytes.len());
                first.copy_from_slice(bytes);
                rest = others;
            }
            Part::Encoded(encoded) => {
                let (first, others) = rest.split_at_mut(encoded.spec.byte_len());
                encoded.decode_stored(&DecodeCx::new(), first)?;
                rest = others;
            }
        }
    }
    Ok(dense)
}

/// Reads a byte of each page.
fn touch(bytes: &[u8]) {
    black_box(bytes.iter().step_by(PAGE).fold(0, |all, byte| all ^ byte));
}
