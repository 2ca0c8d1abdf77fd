//! Calibrated compression: errors are placed where the loss does not notice them.
//!
//! A linear layer computes `y = W·x`. To second order, an error `E = W − Ŵ` of its weights raises
//! the loss by `½ tr(G E A Eᵀ)` per token, where `A = E[x xᵀ]` is the curvature of the inputs and
//! `G = E[g gᵀ]` that of the outputs, with the gradients `g` of the loss. [`feedback`] encodes a
//! matrix with any codec that works column by column ([`codec_api::Panels`]), and changes each
//! column before it is encoded, so that it makes up for the errors of the earlier ones.
//!
//! - [`Factor`]: a curvature as a unit triangular matrix and its pivots
//! - [`feedback`]: an encode with errors fed forward along both axes
//! - [`proxy`]: `tr(G E A Eᵀ)` of the result
//! - [`Collection`]: the curvatures of a language model, from texts; [`Statistics`]: them as a file
//! - [`Calibrated`]: all tensors of a model, ready for an encode
//! - [`Sequential`]: an encode of all tensors in the order of the layers, each after the errors of
//!   those before it
//! - [`Tuning`]: norms and biases, tuned towards the predictions of the dense model
//! - [`allocate`]: a codec for each tensor, such that all together have a size
//! - [`scaled`]: a model with scaled channels that computes the same function

mod allocation;
mod blocks;
mod calibrated;
mod drift;
mod error;
mod factor;
mod feedback;
mod fit;
mod padded;
mod proxy;
mod scaling;
mod search;
mod sequential;
mod statistics;
mod tuning;

pub use allocation::{Offer, allocate};
pub use calibrated::{Calibrated, damping};
pub use error::{Error, Result};
pub use factor::Factor;
pub use feedback::{Curvature, Fed, feedback};
pub use fit::{Fit, Fitted, Stepped};
pub use proxy::proxy;
pub use scaling::{Scaled, scaled};
pub use search::StepSearch;
pub use sequential::{Choice, Compressed, Sequential, Subject};
pub use statistics::{About, Collection, Curve, Protocol, Statistics, TensorStatistics, Text, ends_at, folder};
pub use tuning::Tuning;
