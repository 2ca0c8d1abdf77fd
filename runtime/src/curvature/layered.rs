//! A model that is gone through layer by layer, with one layer in memory.

use checkpoint::Model;

use super::dense::Dense;
use super::head::Head;
use super::layer::{FeedForward, Layer};
use super::{Batch, Observer, Place, embed, finite};
use crate::config::{Attention, Config, ExpertNames, Experts, Plain};
use crate::error::{Error, Result};

/// A model whose layers are loaded one at a time, dense and in f32. The caller keeps what goes from
/// one to the next.
#[derive(Debug)]
pub struct Layered<'a> {
    pub(super) config: Config,
    pub(super) model: &'a Model,
    pub(super) prefix: &'static str,
}

/// The embedding and, if there are any, the positions.
#[derive(Debug)]
pub struct Embedding<'a> {
    config: &'a Config,
    values: (Vec<f32>, Option<Vec<f32>>),
}

/// A layer that batches go through.
#[derive(Debug)]
pub struct LayerPass<'a> {
    config: &'a Config,
    number: usize,
    pub(super) layer: Layer,
}

/// The last norm and the head.
#[derive(Debug)]
pub struct HeadPass {
    head: Head,
}

/// Sizes of linear layers with the same inputs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sizes {
    /// Number of inputs.
    pub inputs: usize,
    /// Number of outputs of each.
    pub outputs: Vec<usize>,
    /// The part of all tokens that reaches them, if all experts of a mixture are used alike.
    pub share: f64,
}

impl Layered<'_> {
    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The names of the embedding, of the positions, and of the head if it is not the embedding.
    pub fn tables(&self) -> (String, Option<String>, Option<String>) {
        let names = self.config.names;
        let name = |name: &str| format!("{}{name}.weight", self.prefix);
        let head = (!self.config.tied).then(|| format!("{}.weight", names.head));
        (name(names.embedding), names.positions.map(name), head)
    }

    /// Loads the embedding.
    ///
    /// # Errors
    /// For a tensor that is missing, has another shape or is not finite.
    pub fn embedding(&self) -> Result<Embedding<'_>> {
        Ok(Embedding { config: &self.config, values: self.loader().tables()? })
    }

    /// Loads the layer with this number.
    ///
    /// # Errors
    /// As [`Self::embedding`].
    pub fn layer(&self, number: usize) -> Result<LayerPass<'_>> {
        Ok(LayerPass { config: &self.config, number, layer: self.loader().layer(number)? })
    }

    /// Loads the head.
    ///
    /// # Errors
    /// As [`Self::embedding`].
    pub fn head(&self) -> Result<HeadPass> {
        Ok(HeadPass { head: self.loader().head(None)? })
    }

    /// The sizes of the linear layers of a layer.
    pub fn sizes(&self, layer: usize) -> Vec<Sizes> {
        let config = &self.config;
        let (width, queries, kv) = (config.width, config.query_width(), config.kv_width());
        let projections = match config.names.attention {
            Attention::Fused(_) => vec![queries + 2 * kv],
            Attention::Apart(_) => vec![queries, kv, kv],
        };
        let sizes = |share: f64, inputs: usize, outputs: Vec<usize>| Sizes { inputs, outputs, share };
        let network = |share: f64, plain: &Plain, wide: usize| {
            let outputs = vec![wide; 1 + usize::from(plain.gate.is_some())];
            [sizes(share, width, outputs), sizes(share, wide, vec![width])]
        };
        let mut all = vec![sizes(1.0, width, projections), sizes(1.0, queries, vec![width])];
        if let Some((kind, names)) = self.experts(layer) {
            let share = kind.used as f64 / kind.count as f64;
            all.push(sizes(1.0, width, vec![kind.count]));
            all.extend((0..kind.count).flat_map(|_| network(share, &names.apart, kind.feed_forward)));
        } else {
            all.extend(network(1.0, &config.names.plain, config.feed_forward));
        }
        all
    }

    /// The experts of a layer, if it has any.
    pub(super) fn experts(&self, layer: usize) -> Option<(Experts, &'static ExpertNames)> {
        let kind = self.config.experts.filter(|_| self.config.expert_layers.get(layer) == Some(&true))?;
        Some((kind, self.config.names.experts.as_ref()?))
    }
}

impl Embedding<'_> {
    /// What goes into the first layer: a vector for each token.
    ///
    /// # Errors
    /// [`Error::Usage`] if a token or the number of tokens is beyond the model.
    pub fn run(&self, batch: &Batch<'_>) -> Result<Vec<f32>> {
        batch.check(self.config)?;
        Ok(embed(batch, self.config.width, (&self.values.0, self.values.1.as_deref())))
    }
}

impl LayerPass<'_> {
    /// The matrices of its linear layers.
    pub fn linears(&self) -> Vec<Place> {
        self.layer.linears().into_iter().map(Dense::place).collect()
    }

    /// The matrices of each expert in the same order; empty if the layer is no mixture.
    pub fn experts(&self) -> Vec<Vec<Place>> {
        let FeedForward::Experts(mixture) = &self.layer.feed_forward else { return Vec::new() };
        mixture.experts.iter().map(|network| network.linears().map(Dense::place).collect()).collect()
    }

    /// The outputs for the inputs `x`, a vector for each token. The observer is shown the inputs of
    /// the linear layers.
    ///
    /// # Errors
    /// [`Error::Usage`] if an output is not finite, or `x` has another length.
    pub fn forward(&self, batch: &Batch<'_>, x: &[f32], observer: Option<&mut dyn Observer>) -> Result<Vec<f32>> {
        self.check(batch, x)?;
        let tape = self.layer.forward(self.config, batch, x);
        finite(&tape.out, self.number)?;
        if let Some(observer) = observer {
            self.layer.show_inputs(&tape, observer);
        }
        Ok(tape.out)
    }

    /// The gradients at the inputs `x`, for gradients `g` at the outputs. The observer is shown the
    /// inputs of the linear layers, and the gradients at their outputs.
    ///
    /// # Errors
    /// [`Error::Usage`] if `x` or `g` has another length.
    pub fn backward(&self, batch: &Batch<'_>, x: &[f32], g: Vec<f32>, observer: &mut dyn Observer) -> Result<Vec<f32>> {
        self.check(batch, x)?;
        self.check(batch, &g)?;
        let tape = self.layer.forward(self.config, batch, x);
        Ok(self.layer.backward(self.config, batch, x, &tape, g, observer))
    }

    fn check(&self, batch: &Batch<'_>, x: &[f32]) -> Result<()> {
        check(batch, x, self.config.width)
    }
}

impl HeadPass {
    /// Shows the observer the head's inputs and predictions for the outputs `x` of the last layer.
    /// With a seed for the labels, the result is the gradients at `x`, otherwise zeros.
    ///
    /// # Errors
    /// [`Error::Usage`] if `x` has another length.
    pub fn run(
        &self,
        batch: &Batch<'_>,
        x: &[f32],
        labels: Option<u64>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<f32>> {
        check(batch, x, self.head.linear.inputs)?;
        let draws = labels.map(|seed| batch.draws(seed));
        Ok(self.head.observe(x, draws.as_deref(), observer))
    }
}

fn check(batch: &Batch<'_>, x: &[f32], width: usize) -> Result<()> {
    if x.len() == batch.tokens() * width {
        return Ok(());
    }
    let (tokens, found) = (batch.tokens(), x.len());
    Err(Error::Usage(format!("{found} values for {tokens} tokens of {width} values")))
}
