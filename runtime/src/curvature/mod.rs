//! Inputs of the linear layers, and gradients of the loss at their outputs: what calibration
//! collects.
//!
//! The loss is the cross-entropy of labels that are drawn from the model's own predictions, summed
//! over all tokens. Then `E[g gᵀ]` is the Fisher information of a layer's outputs, which tells how
//! much an error there changes the predictions; labels of the text would not give it.
//!
//! A pass goes forward and keeps the inputs of each layer; on the way back it computes each layer
//! again. So memory holds the activations of one layer only. One description serves all families
//! of models ([`crate::Config`]).

mod attention;
mod backward;
mod batch;
mod dense;
mod folds;
mod head;
mod layer;
mod load;
mod side_by_side;

use checkpoint::Model;
use codec_api::InputAxis;

pub use batch::Batch;
pub use folds::{Fold, Writer};
pub use side_by_side::{Inputs, SideBySide};

use crate::config::Config;
use crate::decoder::directory;
use crate::error::{Error, Result};
use head::Head;
use layer::Layer;

/// Receives what a pass computes. All slices hold a vector for each token of the batch.
pub trait Observer {
    /// Inputs of the linear layers with these weights.
    fn inputs(&mut self, tensors: &[&str], x: &[f32], width: usize);

    /// Gradients at the outputs of the linear layer with this weight.
    fn gradients(&mut self, tensor: &str, g: &[f32], width: usize);

    /// Gradients at the sum of the embedding and, if there are any, the positions.
    fn embedded(&mut self, tokens: &Batch<'_>, g: &[f32], width: usize);

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

/// A model that runs backwards too. Its weights are dense and in f32.
#[derive(Debug)]
pub struct Differentiable {
    config: Config,
    embedding: (String, Vec<f32>),
    positions: Option<(String, Vec<f32>)>,
    layers: Vec<Layer>,
    head: Head,
}

impl Differentiable {
    /// Opens a model as [`crate::Decoder::open`].
    ///
    /// # Errors
    /// As there; [`Error::Usage`] for a mixture of experts.
    pub fn open(model: &Model) -> Result<Self> {
        let config = Config::read(&directory(model).join("config.json"))?;
        if config.experts.is_some() {
            return Err(Error::Usage("a mixture of experts cannot be calibrated yet".to_owned()));
        }
        load::load(model, config)
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The matrices of the linear layers, without the head.
    pub fn linears(&self) -> Vec<Place> {
        self.layers.iter().flat_map(Layer::linears).map(dense::Dense::place).collect()
    }

    /// The table of the embedding, that of the positions, and the head if it is not the embedding.
    pub fn tables(&self) -> (&str, Option<&str>, Option<&str>) {
        let head = (!self.config.tied).then_some(self.head.tensor());
        (&self.embedding.0, self.positions.as_ref().map(|(name, _)| name.as_str()), head)
    }

    /// Runs a batch forward and, with a seed for the labels, backward.
    ///
    /// # Errors
    /// [`Error::Usage`] if a token or the number of tokens is beyond the model, or an activation is
    /// not finite.
    pub fn observe(&self, batch: &Batch<'_>, labels: Option<u64>, observer: &mut dyn Observer) -> Result<()> {
        batch.check(&self.config)?;
        let mut x = self.embed(batch, self.values());
        let mut kept = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let tape = layer.forward(&self.config, batch, &x);
            finite(&tape.out, number)?;
            if labels.is_none() {
                layer.show_inputs(&tape, observer);
            }
            kept.push(std::mem::replace(&mut x, tape.out));
        }
        let draws = labels.map(|seed| batch.draws(seed));
        let mut g = self.head.observe(&x, draws.as_deref(), observer);
        if labels.is_none() {
            return Ok(());
        }
        for (layer, x) in self.layers.iter().zip(kept).rev() {
            let tape = layer.forward(&self.config, batch, &x);
            g = layer.backward(&self.config, batch, &x, &tape, g, observer);
        }
        observer.embedded(batch, &g, self.config.width);
        Ok(())
    }

    /// The values of the embedding, and those of the positions.
    fn values(&self) -> (&[f32], Option<&[f32]>) {
        (&self.embedding.1, self.positions.as_ref().map(|(_, values)| &**values))
    }

    /// What goes into the first layer, from the values of the embedding and of the positions.
    fn embed(&self, batch: &Batch<'_>, (embedding, positions): (&[f32], Option<&[f32]>)) -> Vec<f32> {
        let width = self.config.width;
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
}

fn finite(x: &[f32], layer: usize) -> Result<()> {
    match codec_api::util::first_non_finite(x) {
        Some(_) => Err(Error::Usage(format!("an output of layer {layer} is not finite: its activations overflow"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
