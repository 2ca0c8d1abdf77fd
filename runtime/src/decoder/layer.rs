//! A layer's weights.

use crate::config;
use crate::kernels::{layer_norm, rms_norm};
use crate::weights::Linear;

/// A normalisation with its weights.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) kind: config::Norm,
    pub(crate) weight: Vec<f32>,
    /// Empty for an RMS norm.
    pub(crate) bias: Vec<f32>,
}

impl Norm {
    /// Normalises each vector of `x` into `y`.
    pub(crate) fn apply(&self, x: &[f32], y: &mut [f32]) {
        let width = self.weight.len().max(1);
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            if self.kind.centred {
                layer_norm(x, &self.weight, &self.bias, self.kind.epsilon, y);
            } else {
                rms_norm(x, &self.weight, self.kind.epsilon, y);
            }
        }
    }
}

/// A layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Norm,
    /// Queries, keys and values: one layer for all, or three.
    pub(super) inputs: Vec<Linear>,
    /// Norms of the heads of queries and of keys.
    pub(super) head_norms: Option<[Norm; 2]>,
    pub(super) output: Linear,
    pub(super) window: Option<usize>,
    pub(super) feed_forward_norm: Norm,
    pub(super) feed_forward: FeedForward,
}

/// What follows the attention.
#[derive(Debug)]
pub(super) enum FeedForward {
    One(Network),
    Experts {
        /// Its outputs are the scores of the experts.
        router: Linear,
        experts: Vec<Network>,
        kind: config::Experts,
    },
}

/// A feed-forward network.
#[derive(Debug)]
pub(super) struct Network {
    /// Its outputs, after the activation, are factors of those of `up`.
    pub(super) gate: Option<Linear>,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

impl Network {
    /// The items of its first and of its second step in a [`crate::weights::Store`].
    pub(super) fn items(&self) -> [Vec<usize>; 2] {
        let first = self.gate.iter().chain([&self.up]);
        [first.flat_map(Linear::items).collect(), self.down.items().collect()]
    }
}
