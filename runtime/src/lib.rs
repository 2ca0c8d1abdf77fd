//! Running models on their encoded weights.
//!
//! A [`Decoder`] is a language model in Hugging Face layout, dense or packed. Packed weights stay
//! packed in memory, unless [`Resident::Dense`] is asked for. Its [`Config`] describes the
//! architecture as data. A [`Session`] is a text in progress: it takes tokens and returns the
//! logits of the next one. A [`Tokenizer`] makes tokens of texts. [`evaluate()`] measures how well
//! a model predicts texts, and how far it is from another one; [`generate()`] continues a text.
//!
//! An [`Adapter`] (LoRA) adds low-rank products to those of a model's linear layers.
//!
//! [`operator`] makes a linear operator of any encoded tensor. If the codec has no operator of its
//! own, the result is a [`RowsMatrix`], which decodes a few rows at a time and multiplies with
//! them.

mod chat;
mod config;
mod decoder;
mod error;
mod evaluate;
mod generate;
mod kernels;
mod rows;
mod team;
mod tokenizer;
mod weights;

use codec_api::{DecodeCx, EncodedTensor, LinearOp};

pub use chat::ChatTemplate;
pub use config::Config;
pub use decoder::{CacheType, Decoder, Options, Session, directory};
pub use error::{Error, Result};
pub use evaluate::{Difference, Evaluation, Protocol, Text, evaluate};
pub use generate::{Generation, Sampler, Sampling, Stops, generate};
pub use rows::RowsMatrix;
pub use tokenizer::{Stream, Tokenizer};
pub use weights::{Adapter, Resident};

/// The linear operator of an encoded tensor: that of its codec ([`codec_api::Codec::as_linear`]) or
/// the generic one.
///
/// # Errors
/// As [`EncodedTensor::open_rows`].
pub fn operator(encoded: &EncodedTensor, cx: &DecodeCx<'_>) -> codec_api::Result<Box<dyn LinearOp>> {
    match encoded.own_operator(cx)? {
        Some(operator) => Ok(operator),
        None => Ok(Box::new(RowsMatrix::new(encoded.open_rows(cx)?))),
    }
}
