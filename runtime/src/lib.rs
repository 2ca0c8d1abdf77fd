//! Running models on their encoded weights.
//!
//! A [`Decoder`] is a language model in Hugging Face layout, dense or packed. Packed weights stay
//! packed in memory, unless [`Resident::Dense`] is asked for. Its [`Config`] describes the
//! architecture as data. A [`Session`] is a text in progress: it takes tokens and returns the
//! logits of the next one. A [`Tokenizer`] makes tokens of texts. [`evaluate()`] measures how well
//! a model predicts texts, and how far it is from another one; [`generate()`] continues a text.
//! [`measure()`] tells how fast a model runs, also one of random weights in a known [`Shape`].
//!
//! [`Layered`] runs backwards too, layer by layer: it shows inputs of the linear layers and
//! gradients at their outputs, for calibration. [`SideBySide`] runs a model beside a changed copy.
//!
//! An [`Adapter`] (LoRA) adds low-rank products to those of a model's linear layers.
//!
//! [`operator`] makes a linear operator of any encoded tensor. If the codec has no operator of its
//! own, the result is a [`RowsMatrix`], which decodes a few rows at a time and multiplies with
//! them.

mod chat;
mod config;
mod curvature;
mod decoder;
mod error;
mod evaluate;
mod generate;
mod kernels;
mod rows;
mod speed;
mod team;
mod tokenizer;
mod weights;

use codec_api::{DecodeCx, EncodedTensor, LinearKernel, LinearOp, TensorView};

pub use chat::ChatTemplate;
pub use config::{Activation, Config};
pub use curvature::{
    Batch, Differentiable, Embedding, Fold, Gradients, HeadPass, Inputs, LayerPass, Layered, Lesson, Observer, Place,
    SideBySide, Sizes, Writer,
};
pub use decoder::{CacheType, Decoder, Options, Session, directory};
pub use error::{Error, Result};
pub use evaluate::{Difference, Evaluation, Protocol, Text, WindowSums, evaluate};
pub use generate::{Generation, Sampler, Sampling, Stops, generate};
pub use kernels::{activate, layer_norm, rms_norm, softmax};
pub use rows::RowsMatrix;
use rows::VectorMatrix;
pub use speed::{Bandwidth, Lengths, Shape, Speed, measure, write_as};
pub use tokenizer::{Stream, Tokenizer};
pub use weights::{Adapter, Demand, Resident, low_rank_product};

/// The linear operator of an encoded tensor: that of its codec ([`codec_api::Codec::as_linear`]) or
/// the generic one. If that of the codec is for vectors only, the generic one multiplies batches.
///
/// # Errors
/// As [`EncodedTensor::open_rows`].
pub fn operator(encoded: &EncodedTensor, cx: &DecodeCx<'_>) -> codec_api::Result<Box<dyn LinearOp>> {
    match own_operator(encoded, cx)? {
        Some(operator) => Ok(operator),
        None => Ok(Box::new(RowsMatrix::new(encoded.open_rows(cx)?))),
    }
}

/// As [`operator`], but `None` if the codec has no operator.
fn own_operator(encoded: &EncodedTensor, cx: &DecodeCx<'_>) -> codec_api::Result<Option<Box<dyn LinearOp>>> {
    let Some(own) = encoded.own_operator(cx)? else { return Ok(None) };
    if !is_for_vectors(encoded) {
        return Ok(Some(own));
    }
    Ok(Some(Box::new(VectorMatrix::new(own, RowsMatrix::new(encoded.open_rows(cx)?)))))
}

/// Whether the codec has an operator that is for vectors only.
fn is_for_vectors(encoded: &EncodedTensor) -> bool {
    encoded.codec.as_linear().is_some_and(|kernel: &dyn LinearKernel| kernel.is_for_vectors())
}

/// The operator of a dense tensor of F32, F16 or BF16 values, to compare others with.
///
/// # Errors
/// [`codec_api::CodecError::Unsupported`] for other dtypes, and
/// [`codec_api::CodecError::Limit`] without enough memory.
pub fn dense_operator(tensor: &TensorView<'_>) -> codec_api::Result<Box<dyn LinearOp>> {
    weights::dense_operator(tensor)
}
