//! A layer of a decoder in both directions.

use super::attention::{Heads, attend, attend_backward};
use super::backward::{norm, norm_gradients, vector_sums};
use super::dense::Dense;
use super::mixture::{Mixture, Routed};
use super::network::{Network, Widened, show};
use super::norm::NamedNorm;
use super::{Batch, Observer};
use crate::config::Config;
use crate::decoder::Norm;

/// A layer.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: NamedNorm,
    /// Queries, keys and values: one linear layer for all, or three.
    pub(super) inputs: Vec<Dense>,
    pub(super) head_norms: Option<[Norm; 2]>,
    pub(super) output: Dense,
    pub(super) window: Option<usize>,
    pub(super) feed_forward_norm: NamedNorm,
    pub(super) feed_forward: FeedForward,
}

/// What follows attention.
#[derive(Clone, Debug)]
pub(super) enum FeedForward {
    One(Network),
    Experts(Mixture),
}

/// What it computes before it adds to the outputs of attention.
enum Hidden {
    One(Widened),
    Experts(Routed),
}

/// What a pass forward computes.
pub(super) struct Tape {
    /// Inputs of attention.
    h: Vec<f32>,
    /// Outputs of [`Layer::inputs`].
    projected: Vec<Vec<f32>>,
    /// Inputs of [`Layer::output`].
    mixed: Vec<f32>,
    /// What goes into the second norm.
    middle: Vec<f32>,
    /// Outputs of the second norm.
    h2: Vec<f32>,
    hidden: Hidden,
    /// Outputs of the layer.
    pub(super) out: Vec<f32>,
}

impl Layer {
    /// All its linear layers.
    pub(super) fn linears(&self) -> Vec<&Dense> {
        let attention = self.inputs.iter().chain([&self.output]);
        match &self.feed_forward {
            FeedForward::One(network) => attention.chain(network.linears()).collect(),
            FeedForward::Experts(mixture) => attention.chain(mixture.linears()).collect(),
        }
    }

    /// One of them.
    pub(super) fn linear(&mut self, tensor: &str) -> Option<&mut Dense> {
        let attention = self.inputs.iter_mut().chain([&mut self.output]);
        let mut all: Vec<&mut Dense> = match &mut self.feed_forward {
            FeedForward::One(network) => attention.chain(network.linears_mut()).collect(),
            FeedForward::Experts(mixture) => attention.chain(mixture.linears_mut()).collect(),
        };
        let found = all.iter().position(|linear| linear.tensor == tensor)?;
        Some(all.swap_remove(found))
    }

    fn heads<'a>(&'a self, config: &'a Config) -> Heads<'a> {
        Heads { config, norms: self.head_norms.as_ref(), window: self.window, fused: self.inputs.len() == 1 }
    }

    pub(super) fn forward(&self, config: &Config, batch: &Batch<'_>, x: &[f32]) -> Tape {
        let (h, projected) = self.project(x);
        let mixed = attend(&self.heads(config), batch, &projected);
        let middle = self.middle(&mixed, x);
        let (h2, hidden, out) = self.feed(config, &middle);
        Tape { h, projected, mixed, middle, h2, hidden, out }
    }

    /// What goes into [`Self::output`] for inputs `x` of the layer.
    pub(super) fn mix(&self, config: &Config, batch: &Batch<'_>, x: &[f32]) -> Vec<f32> {
        attend(&self.heads(config), batch, &self.project(x).1)
    }

    /// Inputs of attention, and what they are projected to.
    fn project(&self, x: &[f32]) -> (Vec<f32>, Vec<Vec<f32>>) {
        let h = norm(&self.attention_norm, x);
        let projected = self.inputs.iter().map(|linear| linear.forward(&h)).collect();
        (h, projected)
    }

    /// What goes into the second norm.
    pub(super) fn middle(&self, mixed: &[f32], x: &[f32]) -> Vec<f32> {
        let mut middle = self.output.forward(mixed);
        add(&mut middle, x);
        middle
    }

    /// Outputs of the second norm, what the feed-forward part computes, and outputs of the layer.
    fn feed(&self, config: &Config, middle: &[f32]) -> (Vec<f32>, Hidden, Vec<f32>) {
        let h2 = norm(&self.feed_forward_norm, middle);
        match &self.feed_forward {
            FeedForward::One(network) => {
                let widened = network.widen(config.activation, &h2);
                let mut out = network.down.forward(&widened.wide);
                add(&mut out, middle);
                (h2, Hidden::One(widened), out)
            }
            FeedForward::Experts(mixture) => {
                let mut out = middle.to_vec();
                let routed = mixture.forward(config.activation, &h2, &mut out);
                (h2, Hidden::Experts(routed), out)
            }
        }
    }

    /// Outputs of the layer, for what goes into the second norm.
    pub(super) fn out(&self, config: &Config, middle: &[f32]) -> Vec<f32> {
        self.feed(config, middle).2
    }

    pub(super) fn show_inputs(&self, tape: &Tape, observer: &mut dyn Observer) {
        show(&self.inputs.iter().collect::<Vec<_>>(), &tape.h, observer);
        show(&[&self.output], &tape.mixed, observer);
        match (&self.feed_forward, &tape.hidden) {
            (FeedForward::One(network), Hidden::One(widened)) => network.show_inputs(&tape.h2, widened, observer),
            (FeedForward::Experts(mixture), Hidden::Experts(routed)) => {
                mixture.show_inputs(&tape.h2, routed, observer);
            }
            _ => {}
        }
    }

    /// The gradients at the inputs `x` of the layer, for gradients `g` at its outputs.
    pub(super) fn backward(
        &self,
        config: &Config,
        batch: &Batch<'_>,
        x: &[f32],
        tape: &Tape,
        g: Vec<f32>,
        observer: &mut dyn Observer,
    ) -> Vec<f32> {
        self.show_inputs(tape, observer);
        let mut of_h2 = vec![0.0; tape.h2.len()];
        match (&self.feed_forward, &tape.hidden) {
            (FeedForward::One(network), Hidden::One(widened)) => {
                network.backward(config.activation, widened, &g, &mut of_h2, observer);
            }
            (FeedForward::Experts(mixture), Hidden::Experts(routed)) => {
                mixture.backward(config.activation, routed, &g, &mut of_h2, observer);
            }
            _ => {}
        }
        let mut g = g;
        let sums = || vector_sums(&self.feed_forward_norm, &tape.middle, &of_h2);
        observer.norm(&self.feed_forward_norm.name, &sums);
        norm_gradients(&self.feed_forward_norm, &tape.middle, &of_h2, &mut g);
        let show = |linear: &Dense, g: &[f32], observer: &mut dyn Observer| {
            observer.gradients(&linear.tensor, g, linear.outputs);
        };
        show(&self.output, &g, observer);
        let mut of_mixed = vec![0.0; tape.mixed.len()];
        self.output.backward(&g, &mut of_mixed);
        let of_projected = attend_backward(&self.heads(config), batch, &tape.projected, &of_mixed);
        let mut of_h = vec![0.0; tape.h.len()];
        for (linear, of_outputs) in self.inputs.iter().zip(&of_projected) {
            show(linear, of_outputs, observer);
            linear.backward(of_outputs, &mut of_h);
        }
        observer.norm(&self.attention_norm.name, &|| vector_sums(&self.attention_norm, x, &of_h));
        norm_gradients(&self.attention_norm, x, &of_h, &mut g);
        g
    }
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}
