//! The output head, the loss, and where gradients begin.

use rayon::prelude::*;

use super::Observer;
use super::backward::{norm, norm_gradients, vector_sums};
use super::dense::Dense;
use super::norm::NamedNorm;
use crate::evaluate::Distribution;
use crate::kernels::softmax;

/// Logits that are computed at a time.
const LOGITS: usize = 1 << 22;

/// The last norm and the output head.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) norm: NamedNorm,
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

/// What the head of a model predicts for the outputs of its last layer.
#[derive(Clone, Copy)]
pub(super) struct Predictions<'a> {
    pub(super) head: &'a Head,
    pub(super) x: &'a [f32],
}

impl Predictions<'_> {
    /// The KL divergence of these predictions from those of `teacher`, summed over all tokens, in
    /// nats. With an observer, which sees the gradients at the norm, also the gradients of this
    /// divergence at `x`.
    pub(super) fn divergence(
        &self,
        teacher: Predictions<'_>,
        observer: Option<&mut dyn Observer>,
    ) -> (f64, Option<Vec<f32>>) {
        let (linear, of_teacher) = (&self.head.linear, &teacher.head.linear);
        let (width, vocabulary) = (linear.inputs, linear.outputs);
        let [h, wanted] = [norm(&self.head.norm, self.x), norm(&teacher.head.norm, teacher.x)];
        let mut of_h = vec![0.0; if observer.is_some() { h.len() } else { 0 }];
        let at_once = (LOGITS / vocabulary).max(1) * width;
        let mut sum = 0.0;
        for (share, (h, wanted)) in h.chunks(at_once).zip(wanted.chunks(at_once)).enumerate() {
            let [mut q, mut p] = [linear.forward(h), of_teacher.forward(wanted)];
            let tokens = p.par_chunks(vocabulary).zip(q.par_chunks(vocabulary));
            let each = tokens.map(|(p, q)| Distribution::new(p).divergence_of(&Distribution::new(q)).0);
            sum += each.collect::<Vec<_>>().iter().sum::<f64>();
            if observer.is_none() {
                continue;
            }
            q.par_chunks_mut(vocabulary).zip(p.par_chunks_mut(vocabulary)).for_each(|(q, p)| {
                softmax(q);
                softmax(p);
                q.iter_mut().zip(p).for_each(|(q, p)| *q -= *p);
            });
            linear.backward(&q, &mut of_h[share * at_once..][..h.len()]);
        }
        let gradients = observer.map(|observer| {
            let Head { norm, .. } = self.head;
            observer.norm(&norm.name, &|| vector_sums(norm, self.x, &of_h));
            let mut g = vec![0.0; self.x.len()];
            norm_gradients(norm, self.x, &of_h, &mut g);
            g
        });
        (sum, gradients)
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
