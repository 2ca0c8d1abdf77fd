//! A mixture of experts in both directions.

use rayon::prelude::*;

use super::Observer;
use super::dense::Dense;
use super::network::{Network, Widened, show};
use crate::config::{Activation, Experts};
use crate::decoder::route;

/// A router, and the experts that it chooses from.
#[derive(Clone, Debug)]
pub(super) struct Mixture {
    pub(super) kind: Experts,
    pub(super) router: Dense,
    pub(super) experts: Vec<Network>,
}

/// What each expert computes, and the probabilities of all experts for each token.
pub(super) struct Routed {
    probabilities: Vec<f32>,
    shares: Vec<Share>,
}

/// What an expert computes for its tokens.
struct Share {
    /// The tokens, with the weight of the expert's output for each.
    tokens: Vec<(usize, f32)>,
    x: Vec<f32>,
    widened: Widened,
    out: Vec<f32>,
}

impl Mixture {
    pub(super) fn linears(&self) -> impl Iterator<Item = &Dense> {
        [&self.router].into_iter().chain(self.experts.iter().flat_map(Network::linears))
    }

    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Dense> {
        [&mut self.router].into_iter().chain(self.experts.iter_mut().flat_map(Network::linears_mut))
    }

    /// Adds the outputs for `x` to `out`, a vector for each token.
    pub(super) fn forward(&self, activation: Activation, x: &[f32], out: &mut [f32]) -> Routed {
        let width = self.router.inputs;
        let mut probabilities = self.router.forward(x);
        let mut chosen = vec![Vec::new(); self.experts.len()];
        for (token, scores) in probabilities.chunks_exact_mut(self.kind.count).enumerate() {
            for (expert, weight) in route(&self.kind, scores) {
                chosen[expert].push((token, weight));
            }
            let sum: f64 = scores.iter().map(|score| f64::from(*score)).sum();
            for score in scores {
                *score = (f64::from(*score) / sum) as f32;
            }
        }
        let run = |(network, tokens): (&Network, Vec<(usize, f32)>)| {
            let x: Vec<f32> = tokens.iter().flat_map(|(token, _)| &x[token * width..][..width]).copied().collect();
            let widened = network.widen(activation, &x);
            let out = network.down.forward(&widened.wide);
            Share { tokens, x, widened, out }
        };
        let shares: Vec<Share> = self.experts.par_iter().zip(chosen).map(run).collect();
        // In the order of the experts, as the decoder adds them.
        for share in &shares {
            for ((token, weight), values) in share.tokens.iter().zip(share.out.chunks_exact(width)) {
                out[token * width..][..width].iter_mut().zip(values).for_each(|(out, value)| *out += weight * value);
            }
        }
        Routed { probabilities, shares }
    }

    /// Shows all experts, also those without tokens.
    pub(super) fn show_inputs(&self, x: &[f32], routed: &Routed, observer: &mut dyn Observer) {
        show(&[&self.router], x, observer);
        for (network, share) in self.experts.iter().zip(&routed.shares) {
            network.show_inputs(&share.x, &share.widened, observer);
        }
    }

    /// Adds the gradients at the inputs to `into`, for gradients `g` at the outputs.
    ///
    /// The output of an expert has the weight `w` that the router gives it. With `dw = g·out`, the
    /// gradient at its score is `w·(dw − Σ w·dw)`, over the chosen experts; if weights are not
    /// scaled to a sum of 1, those of the other experts, whose `dw` is 0, have a gradient too.
    pub(super) fn backward(
        &self,
        activation: Activation,
        routed: &Routed,
        g: &[f32],
        into: &mut [f32],
        observer: &mut dyn Observer,
    ) {
        let (width, count) = (self.router.inputs, self.kind.count);
        let mut of_scores = vec![0.0; routed.probabilities.len()];
        let mut means = vec![0.0; into.len() / width];
        for (expert, (network, share)) in self.experts.iter().zip(&routed.shares).enumerate() {
            let mut of_out = Vec::with_capacity(share.out.len());
            for ((token, weight), out) in share.tokens.iter().zip(share.out.chunks_exact(width)) {
                let g = &g[token * width..][..width];
                let along: f64 = g.iter().zip(out).map(|(g, out)| f64::from(*g) * f64::from(*out)).sum();
                let weighted = f64::from(*weight) * along;
                of_scores[token * count + expert] = weighted as f32;
                means[*token] += weighted;
                of_out.extend(g.iter().map(|g| weight * g));
            }
            let mut of_x = vec![0.0; share.x.len()];
            network.backward(activation, &share.widened, &of_out, &mut of_x, observer);
            for ((token, _), of_x) in share.tokens.iter().zip(of_x.chunks_exact(width)) {
                into[token * width..][..width].iter_mut().zip(of_x).for_each(|(into, of)| *into += of);
            }
        }
        if self.kind.normalised {
            for (expert, share) in routed.shares.iter().enumerate() {
                for (token, weight) in &share.tokens {
                    of_scores[token * count + expert] -= weight * means[*token] as f32;
                }
            }
        } else {
            let rows = of_scores.chunks_exact_mut(count).zip(routed.probabilities.chunks_exact(count));
            for ((of, probabilities), mean) in rows.zip(&means) {
                of.iter_mut().zip(probabilities).for_each(|(of, p)| *of -= p * *mean as f32);
            }
        }
        observer.gradients(&self.router.tensor, &of_scores, count);
        self.router.backward(&of_scores, into);
    }
}
