//! A feed-forward network in both directions.

use rayon::prelude::*;

use super::Observer;
use super::backward::slope;
use super::dense::Dense;
use crate::config::Activation;
use crate::kernels::{activate, multiply};

/// Values that one thread activates.
const SHARE: usize = 1 << 14;

/// `down·(f(gate·x)∘(up·x))`; without a gate `down·f(up·x)`.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) gate: Option<Dense>,
    pub(super) up: Dense,
    pub(super) down: Dense,
}

/// What it computes before [`Network::down`].
pub(super) struct Widened {
    /// Outputs of gate, before the activation.
    gate: Vec<f32>,
    /// Outputs of up; without a gate, before the activation.
    up: Vec<f32>,
    /// Inputs of down.
    pub(super) wide: Vec<f32>,
}

/// Shows the inputs of linear layers that have the same.
pub(super) fn show(linears: &[&Dense], x: &[f32], observer: &mut dyn Observer) {
    let names: Vec<&str> = linears.iter().map(|linear| &*linear.tensor).collect();
    observer.inputs(&names, x, linears[0].inputs);
}

impl Network {
    pub(super) fn linears(&self) -> impl Iterator<Item = &Dense> {
        self.gate.iter().chain([&self.up, &self.down])
    }

    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Dense> {
        self.gate.iter_mut().chain([&mut self.up, &mut self.down])
    }

    pub(super) fn widen(&self, activation: Activation, x: &[f32]) -> Widened {
        let up = self.up.forward(x);
        let gate = self.gate.as_ref().map_or_else(Vec::new, |gate| gate.forward(x));
        let mut wide = if self.gate.is_some() { gate.clone() } else { up.clone() };
        wide.par_chunks_mut(SHARE).for_each(|wide| activate(activation, wide));
        if self.gate.is_some() {
            multiply(&mut wide, &up);
        }
        Widened { gate, up, wide }
    }

    pub(super) fn show_inputs(&self, x: &[f32], widened: &Widened, observer: &mut dyn Observer) {
        show(&self.gate.iter().chain([&self.up]).collect::<Vec<_>>(), x, observer);
        show(&[&self.down], &widened.wide, observer);
    }

    /// Adds the gradients at the inputs to `into`, for gradients `g` at the outputs.
    pub(super) fn backward(
        &self,
        activation: Activation,
        widened: &Widened,
        g: &[f32],
        into: &mut [f32],
        observer: &mut dyn Observer,
    ) {
        let mut show = |linear: &Dense, g: &[f32]| observer.gradients(&linear.tensor, g, linear.outputs);
        show(&self.down, g);
        let mut of_wide = vec![0.0; widened.wide.len()];
        self.down.backward(g, &mut of_wide);
        let (of_up, of_gate) = self.slopes(activation, widened, &of_wide);
        show(&self.up, &of_up);
        self.up.backward(&of_up, into);
        if let (Some(gate), Some(of_gate)) = (&self.gate, of_gate) {
            show(gate, &of_gate);
            gate.backward(&of_gate, into);
        }
    }

    /// The gradients at the outputs of up, and of gate if there is one.
    fn slopes(&self, kind: Activation, widened: &Widened, of_wide: &[f32]) -> (Vec<f32>, Option<Vec<f32>>) {
        let Widened { gate, up, .. } = widened;
        let slopes =
            |of: &[f32], x: &[f32]| -> Vec<f32> { of.par_iter().zip(x).map(|(g, x)| g * slope(kind, *x)).collect() };
        if self.gate.is_none() {
            return (slopes(of_wide, up), None);
        }
        let mut activated = gate.clone();
        activate(kind, &mut activated);
        let of_activated: Vec<f32> = of_wide.iter().zip(up).map(|(g, up)| g * up).collect();
        multiply(&mut activated, of_wide);
        (activated, Some(slopes(&of_activated, gate)))
    }
}
