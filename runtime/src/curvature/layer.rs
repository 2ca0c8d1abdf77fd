//! A layer of a decoder in both directions.

use rayon::prelude::*;

use super::attention::{Heads, attend, attend_backward};
use super::backward::{norm, norm_gradients, slope};
use super::dense::Dense;
use super::{Batch, Observer};
use crate::config::Config;
use crate::decoder::Norm;
use crate::kernels::{activate, multiply};

/// A layer.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Norm,
    /// Queries, keys and values: one linear layer for all, or three.
    pub(super) inputs: Vec<Dense>,
    pub(super) head_norms: Option<[Norm; 2]>,
    pub(super) output: Dense,
    pub(super) window: Option<usize>,
    pub(super) feed_forward_norm: Norm,
    pub(super) gate: Option<Dense>,
    pub(super) up: Dense,
    pub(super) down: Dense,
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
    /// Inputs of gate and up.
    h2: Vec<f32>,
    /// Outputs of gate, before the activation.
    gate: Vec<f32>,
    /// Outputs of up; without a gate, before the activation.
    up: Vec<f32>,
    /// Inputs of down.
    wide: Vec<f32>,
    /// Outputs of the layer.
    pub(super) out: Vec<f32>,
}

/// What the feed-forward part computes before [`Layer::down`].
pub(super) struct Widened {
    h2: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    pub(super) wide: Vec<f32>,
}

impl Layer {
    /// All its linear layers.
    pub(super) fn linears(&self) -> impl Iterator<Item = &Dense> {
        self.inputs.iter().chain([&self.output]).chain(&self.gate).chain([&self.up, &self.down])
    }

    /// One of them.
    pub(super) fn linear(&mut self, tensor: &str) -> Option<&mut Dense> {
        let rest = [&mut self.output, &mut self.up, &mut self.down];
        let mut all = self.inputs.iter_mut().chain(&mut self.gate).chain(rest);
        all.find(|linear| linear.tensor == tensor)
    }

    fn heads<'a>(&'a self, config: &'a Config) -> Heads<'a> {
        Heads { config, norms: self.head_norms.as_ref(), window: self.window, fused: self.inputs.len() == 1 }
    }

    pub(super) fn forward(&self, config: &Config, batch: &Batch<'_>, x: &[f32]) -> Tape {
        let (h, projected) = self.project(x);
        let mixed = attend(&self.heads(config), batch, &projected);
        let middle = self.middle(&mixed, x);
        let Widened { h2, gate, up, wide } = self.widen(config, &middle);
        let out = self.out(&wide, &middle);
        Tape { h, projected, mixed, middle, h2, gate, up, wide, out }
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

    pub(super) fn widen(&self, config: &Config, middle: &[f32]) -> Widened {
        let h2 = norm(&self.feed_forward_norm, middle);
        let up = self.up.forward(&h2);
        let gate = self.gate.as_ref().map_or_else(Vec::new, |gate| gate.forward(&h2));
        let mut wide = if self.gate.is_some() { gate.clone() } else { up.clone() };
        let share = 1 << 14;
        wide.par_chunks_mut(share).for_each(|wide| activate(config.activation, wide));
        if self.gate.is_some() {
            multiply(&mut wide, &up);
        }
        Widened { h2, gate, up, wide }
    }

    /// Outputs of the layer.
    pub(super) fn out(&self, wide: &[f32], middle: &[f32]) -> Vec<f32> {
        let mut out = self.down.forward(wide);
        add(&mut out, middle);
        out
    }

    pub(super) fn show_inputs(&self, tape: &Tape, observer: &mut dyn Observer) {
        let names = |linears: &[&Dense]| linears.iter().map(|linear| linear.tensor.clone()).collect::<Vec<_>>();
        let mut show = |linears: &[&Dense], x: &[f32]| {
            let names = names(linears);
            observer.inputs(&names.iter().map(String::as_str).collect::<Vec<_>>(), x, linears[0].inputs);
        };
        show(&self.inputs.iter().collect::<Vec<_>>(), &tape.h);
        show(&[&self.output], &tape.mixed);
        show(&self.gate.iter().chain([&self.up]).collect::<Vec<_>>(), &tape.h2);
        show(&[&self.down], &tape.wide);
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
        let mut show = |linear: &Dense, g: &[f32]| observer.gradients(&linear.tensor, g, linear.outputs);
        show(&self.down, &g);
        let mut of_wide = vec![0.0; tape.wide.len()];
        self.down.backward(&g, &mut of_wide);
        let (of_up, of_gate) = self.feed_forward(config, tape, &of_wide);
        let mut of_h2 = vec![0.0; tape.h2.len()];
        show(&self.up, &of_up);
        self.up.backward(&of_up, &mut of_h2);
        if let (Some(gate), Some(of_gate)) = (&self.gate, of_gate) {
            show(gate, &of_gate);
            gate.backward(&of_gate, &mut of_h2);
        }
        let mut g = g;
        norm_gradients(&self.feed_forward_norm, &tape.middle, &of_h2, &mut g);
        show(&self.output, &g);
        let mut of_mixed = vec![0.0; tape.mixed.len()];
        self.output.backward(&g, &mut of_mixed);
        let of_projected = attend_backward(&self.heads(config), batch, &tape.projected, &of_mixed);
        let mut of_h = vec![0.0; tape.h.len()];
        for (linear, of_outputs) in self.inputs.iter().zip(&of_projected) {
            show(linear, of_outputs);
            linear.backward(of_outputs, &mut of_h);
        }
        norm_gradients(&self.attention_norm, x, &of_h, &mut g);
        g
    }

    /// The gradients at the outputs of up, and of gate if there is one.
    fn feed_forward(&self, config: &Config, tape: &Tape, of_wide: &[f32]) -> (Vec<f32>, Option<Vec<f32>>) {
        let kind = config.activation;
        let slopes =
            |of: &[f32], x: &[f32]| -> Vec<f32> { of.par_iter().zip(x).map(|(g, x)| g * slope(kind, *x)).collect() };
        if self.gate.is_none() {
            return (slopes(of_wide, &tape.up), None);
        }
        let mut activated = tape.gate.clone();
        activate(kind, &mut activated);
        let of_activated: Vec<f32> = of_wide.iter().zip(&tape.up).map(|(g, up)| g * up).collect();
        multiply(&mut activated, of_wide);
        (activated, Some(slopes(&of_activated, &tape.gate)))
    }
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}
