//! Inputs of the linear layers, and gradients of the loss at their outputs: what calibration
//! collects.
//!
//! The loss is the cross-entropy of labels that are drawn from the model's own predictions, summed
//! over all tokens. Then `E[g gᵀ]` is the Fisher information of a layer's outputs, which tells how
//! much an error there changes the predictions; labels of the text would not give it.
//!
//! [`Layered`] has one layer in memory at a time: all batches go through it, forward and later
//! backward, where the layer is computed again from its inputs, which the caller keeps.
//! [`Differentiable`] has all layers. One description serves all families of models
//! ([`crate::Config`]).

mod attention;
mod backward;
mod batch;
mod dense;
mod distillation;
mod folds;
mod head;
mod layer;
mod layered;
mod load;
mod mixture;
mod network;
mod norm;
mod side_by_side;

use checkpoint::Model;
use codec_api::InputAxis;

pub use batch::Batch;
pub use distillation::{Gradients, Lesson};
pub use folds::{Fold, Writer};
pub use layered::{Embedding, HeadPass, LayerPass, Layered, Sizes};
pub use side_by_side::{Inputs, SideBySide};

use crate::config::Config;
use crate::error::{Error, Result};
use head::Head;
use layer::Layer;

/// Receives what a pass computes. All slices hold a vector for each token of the batch.
pub trait Observer {
    /// Inputs of the linear layers with these weights.
    fn inputs(&mut self, tensors: &[&str], x: &[f32], width: usize);

    /// Gradients at the outputs of the linear layer with this weight.
    fn gradients(&mut self, tensor: &str, g: &[f32], width: usize);

    /// A norm. `gradients` computes the sums over all tokens of the gradients with its weight, and
    /// with its bias.
    fn norm(&mut self, _name: &str, _gradients: &dyn Fn() -> [Vec<f64>; 2]) {}

    /// For each token of the vocabulary the sum of `p·(1 − p)` over its predicted probabilities.
    fn predicted(&mut self, variances: &[f64]);
}

/// A linear layer, or a table that tokens look up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Place {
    /// The name of the tensor.
    pub tensor: String,
    /// The axis of the tensor that its inputs run along.
    pub axis: InputAxis,
}

/// A model with all its weights in memory, dense and in f32.
#[derive(Clone, Debug)]
pub struct Differentiable {
    config: Config,
    embedding: (String, Vec<f32>),
    positions: Option<(String, Vec<f32>)>,
    layers: Vec<Layer>,
    head: Head,
}

impl Differentiable {
    /// Opens a model as [`Layered::open`], and loads it.
    ///
    /// # Errors
    /// As there.
    pub fn open(model: &Model) -> Result<Self> {
        Layered::open(model)?.load()
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The table of the embedding, that of the positions, and the head if it is not the embedding.
    pub fn tables(&self) -> (&str, Option<&str>, Option<&str>) {
        let head = (!self.config.tied).then_some(self.head.tensor());
        (&self.embedding.0, self.positions.as_ref().map(|(name, _)| name.as_str()), head)
    }

    /// The values of the embedding, and those of the positions.
    fn values(&self) -> (&[f32], Option<&[f32]>) {
        (&self.embedding.1, self.positions.as_ref().map(|(_, values)| &**values))
    }
}

/// What goes into the first layer, from the values of the embedding and of the positions.
fn embed(batch: &Batch<'_>, width: usize, (embedding, positions): (&[f32], Option<&[f32]>)) -> Vec<f32> {
    let mut x = Vec::with_capacity(batch.tokens() * width);
    for (id, position) in batch.ids() {
        let first = x.len();
        x.extend_from_slice(&embedding[id as usize * width..][..width]);
        if let Some(positions) = positions {
            let row = &positions[position * width..][..width];
            x[first..].iter_mut().zip(row).for_each(|(x, p)| *x += p);
        }
    }
    x
}

fn finite(x: &[f32], layer: usize) -> Result<()> {
    match codec_api::util::first_non_finite(x) {
        Some(_) => Err(Error::Usage(format!("an output of layer {layer} is not finite: its activations overflow"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
