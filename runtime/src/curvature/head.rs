//! The output head, the loss, and where gradients begin.

use rayon::prelude::*;

use super::Observer;
use super::backward::{norm, norm_gradients};
use super::dense::Dense;
use crate::decoder::Norm;
use crate::kernels::softmax;

/// Logits that are computed at a time.
const LOGITS: usize = 1 << 22;

/// The last norm and the output head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) norm: Norm,
    pub(super) linear: Dense,
}

impl Head {
    pub(super) fn tensor(&self) -> &str {
        &self.linear.tensor
    }

    /// Shows the head's inputs and predictions for the outputs `x` of the last layer. With a number
    /// from 0 to 1 for each token, which draws its label, the result is the gradients at `x`.
    pub(super) fn observe(&self, x: &[f32], draws: Option<&[f64]>, observer: &mut dyn Observer) -> Vec<f32> {
        let h = norm(&self.norm, x);
        observer.inputs(&[self.tensor()], &h, self.linear.inputs);
        let (width, vocabulary) = (self.linear.inputs, self.linear.outputs);
        let at_once = (LOGITS / vocabulary).max(1);
        let mut of_h = vec![0.0; h.len()];
        let mut variances = vec![0.0; vocabulary];
        for (share, h) in h.chunks(at_once * width).enumerate() {
            let mut p = self.linear.forward(h);
            p.par_chunks_mut(vocabulary).for_each(softmax);
            for p in p.chunks_exact(vocabulary) {
                for (variance, p) in variances.iter_mut().zip(p) {
                    *variance += f64::from(p * (1.0 - p));
                }
            }
            let Some(draws) = draws else { continue };
            let first = share * at_once;
            p.par_chunks_mut(vocabulary).zip(&draws[first..]).for_each(|(p, draw)| {
                let label = label(p, *draw);
                p[label] -= 1.0;
            });
            self.linear.backward(&p, &mut of_h[first * width..][..h.len()]);
        }
        observer.predicted(&variances);
        let mut g = vec![0.0; x.len()];
        if draws.is_some() {
            norm_gradients(&self.norm, x, &of_h, &mut g);
        }
        g
    }
}

/// The first token at which the sum of probabilities exceeds `draw`.
pub(super) fn label(p: &[f32], draw: f64) -> usize {
    let mut sum = 0.0;
    let past = p.iter().position(|p| {
        sum += f64::from(*p);
        sum > draw
    });
    // Rounding may leave the sum slightly below 1.
    past.unwrap_or_else(|| p.iter().rposition(|p| *p > 0.0).unwrap_or(0))
}
