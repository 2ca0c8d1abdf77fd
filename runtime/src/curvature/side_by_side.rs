//! A model beside a copy whose weights are replaced, layer by layer.

use std::ops::Range;

use rayon::prelude::*;

use super::backward::norm;
use super::dense::Dense;
use super::layer::{FeedForward, Layer};
use super::{Batch, Differentiable, Place, embed, finite};
use crate::error::{Error, Result};
use crate::evaluate::Distribution;

/// Logits of each model that are computed at a time.
const LOGITS: usize = 1 << 21;

/// Runs a dense model and a copy of it side by side. The copy's linear layers are replaced group by
/// group, in the order in which tokens go through them, so that each group sees what the replaced
/// ones before it really give.
///
/// For each group the caller looks at the inputs in both models ([`Self::inputs`]), replaces the
/// weights ([`Self::replace`]), and goes on ([`Self::advance`]). All in all, each model makes about
/// one pass forward and a half. The activations of all tokens are in memory: four vectors of the
/// model's width for each token.
#[derive(Debug)]
pub struct SideBySide<'a> {
    dense: &'a Differentiable,
    batches: &'a [Batch<'a>],
    /// The number of the layer that is replaced; that behind the last one for the head.
    number: usize,
    stage: Stage,
    layer: Option<Layer>,
    head: Dense,
    /// For each batch, the inputs of the layer in both models; from [`Stage::Wide`] on, those of
    /// the second norm.
    x: Vec<[Vec<f32>; 2]>,
    /// In [`Stage::Output`], for each batch the inputs of that linear layer in both models.
    mixed: Vec<[Vec<f32>; 2]>,
}

/// The group of linear layers that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Queries, keys and values.
    Attention,
    /// The output of attention.
    Output,
    /// Gate and up.
    Wide,
    Down,
    /// The router and all experts of a mixture.
    Experts,
    Head,
    Done,
}

/// What goes into a group of linear layers, a vector for each token.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Inputs<'a> {
    /// In the dense model.
    pub dense: &'a [f32],
    /// In the copy.
    pub replaced: &'a [f32],
    /// What the outputs of the group are added to, in both models.
    pub residuals: Option<[&'a [f32]; 2]>,
}

impl<'a> SideBySide<'a> {
    /// Begins with a copy that has another embedding and other positions, if they are given. A tied
    /// head has the same values as the embedding.
    ///
    /// # Errors
    /// [`Error::Usage`] for tokens that the model does not have, and tables of another size.
    pub fn new(
        dense: &'a Differentiable,
        batches: &'a [Batch<'a>],
        embedding: Option<&[f32]>,
        positions: Option<&[f32]>,
    ) -> Result<Self> {
        batches.iter().try_for_each(|batch| batch.check(&dense.config))?;
        let own = dense.values();
        let tables = (embedding.unwrap_or(own.0), positions.or(own.1));
        if tables.0.len() != own.0.len() || tables.1.map(<[f32]>::len) != own.1.map(<[f32]>::len) {
            return Err(Error::Usage("the embedding or the positions have another size than the model's".to_owned()));
        }
        let mut head = dense.head.linear.clone();
        if dense.config.tied {
            head.replace(tables.0);
        }
        let width = dense.config.width;
        let x = batches.iter().map(|batch| [own, tables].map(|tables| embed(batch, width, tables))).collect();
        let mut this =
            Self { dense, batches, number: 0, stage: Stage::Attention, layer: None, head, x, mixed: Vec::new() };
        this.enter();
        Ok(this)
    }

    /// Begins the layer with the current number, or the head.
    fn enter(&mut self) {
        self.layer = self.dense.layers.get(self.number).cloned();
        self.stage = match &self.layer {
            Some(_) => Stage::Attention,
            None if self.dense.config.tied => Stage::Done,
            None => Stage::Head,
        };
    }

    /// The linear layers that are replaced now, which have the same inputs; none at the end.
    pub fn group(&self) -> Vec<Place> {
        let Some(layer) = &self.layer else {
            return if self.stage == Stage::Head { vec![self.head.place()] } else { Vec::new() };
        };
        match self.stage {
            Stage::Attention => layer.inputs.iter().map(Dense::place).collect(),
            Stage::Output => vec![layer.output.place()],
            _ => self.feed_forward(layer).into_iter().map(Dense::place).collect(),
        }
    }

    /// The linear layers of the group, in or behind [`Stage::Wide`].
    fn feed_forward<'l>(&self, layer: &'l Layer) -> Vec<&'l Dense> {
        match (&layer.feed_forward, self.stage) {
            (FeedForward::One(network), Stage::Wide) => network.gate.iter().chain([&network.up]).collect(),
            (FeedForward::One(network), _) => vec![&network.down],
            (FeedForward::Experts(mixture), _) => mixture.linears().collect(),
        }
    }

    /// Whether all linear layers of the group have the inputs that [`Self::inputs`] shows. The
    /// router and the experts of a mixture have not: each expert has tokens of its own, and other
    /// ones in both models.
    pub fn has_inputs(&self) -> bool {
        self.stage != Stage::Experts
    }

    /// Calls `each` with the inputs of the group in each of these batches, if it has any
    /// ([`Self::has_inputs`]).
    pub fn inputs(&self, batches: Range<usize>, mut each: impl FnMut(Inputs<'_>)) {
        for number in batches.filter(|_| self.has_inputs()) {
            let x = &self.x[number];
            let residuals = matches!(self.stage, Stage::Output | Stage::Down).then(|| [&*x[0], &*x[1]]);
            if self.stage == Stage::Output {
                let [dense, replaced] = &self.mixed[number];
                each(Inputs { dense, replaced, residuals });
            } else {
                let [dense, replaced] = both(|of| self.input(of, &x[of]));
                each(Inputs { dense: &dense, replaced: &replaced, residuals });
            }
        }
    }

    /// The layer in the dense model and in the copy.
    fn layers(&self) -> Option<[&Layer; 2]> {
        Some([self.dense.layers.get(self.number)?, self.layer.as_ref()?])
    }

    /// What goes into the group in one of the models.
    fn input(&self, of: usize, x: &[f32]) -> Vec<f32> {
        match (self.layers(), self.stage) {
            (Some(layers), Stage::Attention) => norm(&layers[of].attention_norm, x),
            (Some(layers), Stage::Wide) => norm(&layers[of].feed_forward_norm, x),
            (Some(layers), _) => {
                let Layer { feed_forward_norm, feed_forward, .. } = layers[of];
                let FeedForward::One(network) = feed_forward else { return Vec::new() };
                network.widen(self.dense.config.activation, &norm(feed_forward_norm, x)).wide
            }
            (None, _) => norm(&self.dense.head.norm, x),
        }
    }

    /// Replaces the weights of a linear layer of the group, in the layout of the tensor.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is none of the group, or has another size.
    pub fn replace(&mut self, tensor: &str, values: &[f32]) -> Result<()> {
        let linear = match &mut self.layer {
            Some(layer) => layer.linear(tensor),
            None => Some(&mut self.head).filter(|head| head.tensor == tensor),
        };
        let linear = linear.filter(|linear| linear.weight.len() == values.len());
        let linear = linear.ok_or_else(|| Error::Usage(format!("`{tensor}` is not replaced now, or not by this")))?;
        linear.replace(values);
        Ok(())
    }

    /// Goes on to the next group.
    ///
    /// # Errors
    /// [`Error::Usage`] if an activation is not finite.
    pub fn advance(&mut self) -> Result<()> {
        let config = &self.dense.config;
        let Some(layers) = self.layers() else {
            self.stage = Stage::Done;
            return Ok(());
        };
        match self.stage {
            Stage::Attention => {
                let mix = |batch: &Batch<'_>, x: &[Vec<f32>; 2]| both(|of| layers[of].mix(config, batch, &x[of]));
                self.mixed = self.batches.iter().zip(&self.x).map(|(batch, x)| mix(batch, x)).collect();
                self.stage = Stage::Output;
            }
            Stage::Output => {
                let mixture = matches!(layers[0].feed_forward, FeedForward::Experts(_));
                let next = if mixture { Stage::Experts } else { Stage::Wide };
                let middle =
                    |(mixed, x): (&[Vec<f32>; 2], &[Vec<f32>; 2])| both(|of| layers[of].middle(&mixed[of], &x[of]));
                self.x = self.mixed.iter().zip(&self.x).map(middle).collect();
                self.mixed = Vec::new();
                self.stage = next;
            }
            Stage::Wide => self.stage = Stage::Down,
            _ => {
                let out = |of: usize, x: &[f32]| layers[of].out(config, x);
                self.x = self.x.iter().map(|x| both(|of| out(of, &x[of]))).collect();
                self.x.iter().flatten().try_for_each(|x| finite(x, self.number))?;
                self.number += 1;
                self.enter();
            }
        }
        Ok(())
    }

    /// The KL divergence of the copy's predictions from the dense model's, summed over the tokens
    /// of a batch, in nats. Every group has been replaced.
    pub fn divergence(&self, batch: usize) -> f64 {
        let heads = [&self.dense.head.linear, &self.head];
        let (width, vocabulary) = (self.dense.config.width, self.dense.config.vocabulary);
        let [dense, copy] = both(|of| norm(&self.dense.head.norm, &self.x[batch][of]));
        let at_once = (LOGITS / vocabulary).max(1) * width;
        let mut sum = 0.0;
        for (dense, copy) in dense.chunks(at_once).zip(copy.chunks(at_once)) {
            let [p, q] = both(|of| heads[of].forward([dense, copy][of]));
            let tokens = p.par_chunks(vocabulary).zip(q.par_chunks(vocabulary));
            let each = tokens.map(|(p, q)| Distribution::new(p).divergence_of(&Distribution::new(q)).0);
            sum += each.collect::<Vec<_>>().iter().sum::<f64>();
        }
        sum
    }
}

/// Something of the dense model, and of the copy.
fn both<T: Send>(of: impl Fn(usize) -> T + Sync) -> [T; 2] {
    let (dense, copy) = rayon::join(|| of(0), || of(1));
    [dense, copy]
}
