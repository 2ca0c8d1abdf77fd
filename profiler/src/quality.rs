//! How well a variant predicts a text, and how far it is from the dense model.

use planner::Estimate;
use runtime::{Evaluation, WindowSums};

use crate::error::{Error, Result};
use crate::interval::{mean, through};

/// Measures of quality, each with its confidence interval of 95 % over the windows of the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Perplexity.
    pub perplexity: Estimate,
    /// Rise of the perplexity over that of the dense model, as a share of the latter.
    pub perplexity_change: Estimate,
    /// Mean KL divergence from the dense model, in nats per token.
    pub kl: Estimate,
    /// Share of tokens with the dense model's most likely token.
    pub top1: Estimate,
}

impl Quality {
    /// The measures of an evaluation. Without a reference, they are those of the dense model, which
    /// does not differ from itself.
    ///
    /// # Errors
    /// [`Error::Input`] for fewer than two windows: they have no interval.
    pub fn of(evaluation: &Evaluation) -> Result<Self> {
        let windows = &evaluation.windows;
        let over = |figure: fn(&WindowSums) -> f64| {
            let sums: Vec<_> = windows.iter().map(|window| (figure(window), window.tokens)).collect();
            mean(&sums).ok_or_else(|| {
                let windows = sums.len();
                Error::Input(format!(
                    "the text is too short: {windows} window, and a confidence interval needs at least 2; give a \
                     longer text, or windows of fewer tokens"
                ))
            })
        };
        let perplexity = through(over(|window| window.nll)?, libm::exp);
        let exactly = |value| Estimate { value, low: value, high: value };
        if evaluation.difference.is_none() {
            return Ok(Self { perplexity, perplexity_change: exactly(0.0), kl: exactly(0.0), top1: exactly(1.0) });
        }
        Ok(Self {
            perplexity,
            perplexity_change: through(over(|window| window.nll - window.reference_nll)?, libm::expm1),
            kl: through(over(|window| window.kl)?, |kl| kl.max(0.0)),
            top1: through(over(|window| window.same as f64)?, |share| share.clamp(0.0, 1.0)),
        })
    }
}
