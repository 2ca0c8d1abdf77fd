//! Sums over tokens.

/// How a model differs from a reference model on the same tokens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Difference {
    /// Mean of the Kullback–Leibler divergence from the reference, over the predicted tokens, in
    /// nats.
    pub kl: f64,
    /// Its median, and its 99 % and 99.9 % quantiles.
    pub kl_quantiles: [f64; 3],
    /// Share of the tokens for which both models have the same most likely token.
    pub top1: f64,
    /// Perplexity of the reference.
    pub reference_perplexity: f64,
    /// Perplexity of the model, less that of the reference.
    pub perplexity_change: f64,
    /// Standard error of this difference. Tokens count as independent; what both models find hard
    /// cancels out.
    pub perplexity_change_error: f64,
}

/// Sums over the predicted tokens of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WindowSums {
    /// Number of predicted tokens.
    pub tokens: u64,
    /// Negative log-likelihood of these tokens in nats.
    pub nll: f64,
    /// That of the reference model; 0 without one.
    pub reference_nll: f64,
    /// Kullback–Leibler divergence from the reference in nats; 0 without one.
    pub kl: f64,
    /// Tokens for which both models have the same most likely token; 0 without a reference.
    pub same: u64,
}

/// Sums over the predicted tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) windows: Vec<WindowSums>,
    pub(super) tokens: u64,
    pub(super) nll: f64,
    reference_nll: f64,
    /// Sums of the squares of both, and of their product.
    squares: [f64; 3],
    same: u64,
    kl: f64,
    divergences: Vec<f32>,
}

impl Sums {
    /// The tokens that follow are of a new window.
    pub(super) fn begin_window(&mut self) {
        self.windows.push(WindowSums::default());
    }

    /// Adds a token with its negative log-likelihood.
    pub(super) fn add(&mut self, nll: f64) {
        self.tokens += 1;
        self.nll += nll;
        if let Some(window) = self.windows.last_mut() {
            window.tokens += 1;
            window.nll += nll;
        }
    }

    /// Adds a token that both models predict.
    pub(super) fn add_pair(&mut self, nll: f64, reference: f64, divergence: f64, same: bool) {
        self.add(nll);
        self.reference_nll += reference;
        for (sum, product) in self.squares.iter_mut().zip([nll * nll, reference * reference, nll * reference]) {
            *sum += product;
        }
        self.same += u64::from(same);
        self.kl += divergence;
        self.divergences.push(divergence as f32);
        if let Some(window) = self.windows.last_mut() {
            window.reference_nll += reference;
            window.kl += divergence;
            window.same += u64::from(same);
        }
    }

    /// The figures of both models.
    pub(super) fn difference(mut self) -> Difference {
        let n = self.tokens.max(1) as f64;
        let (mean, reference) = (self.nll / n, self.reference_nll / n);
        // Variances and covariance of the means.
        let variance = |squares: f64, product: f64| (squares / n - product).max(0.0) / (n - 1.0).max(1.0);
        let [own, other] = [variance(self.squares[0], mean * mean), variance(self.squares[1], reference * reference)];
        let both = (self.squares[2] / n - mean * reference) / (n - 1.0).max(1.0);
        let (p, q) = (libm::exp(mean), libm::exp(reference));
        let error = (p * p * own + q * q * other - 2.0 * p * q * both).max(0.0).sqrt();
        self.divergences.sort_by(f32::total_cmp);
        let quantile = |share: f64| {
            let rank = (share * n).ceil().max(1.0) as usize;
            self.divergences.get(rank - 1).map_or(0.0, |kl| f64::from(*kl))
        };
        Difference {
            kl: self.kl / n,
            kl_quantiles: [0.5, 0.99, 0.999].map(quantile),
            top1: self.same as f64 / n,
            reference_perplexity: q,
            perplexity_change: p - q,
            perplexity_change_error: error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_errors_are_those_of_the_definitions() {
        let mut sums = Sums::default();
        for i in 0..1000 {
            if i % 600 == 0 {
                sums.begin_window();
            }
            let reference = f64::from(i % 10) / 3.0;
            let nll = reference + if i % 2 == 0 { 0.1 } else { -0.1 };
            sums.add_pair(nll, reference, f64::from(i), i % 4 != 0);
        }
        let windows = sums.windows.clone();
        assert_eq!(
            windows.iter().map(|window| (window.tokens, window.same)).collect::<Vec<_>>(),
            [(600, 450), (400, 300)]
        );
        assert_eq!(windows.iter().map(|window| window.kl).sum::<f64>(), 499_500.0);
        assert!((windows[0].nll - windows[0].reference_nll).abs() < 1e-9 && windows[1].nll > 100.0);
        let found = sums.difference();
        assert_eq!((found.kl, found.kl_quantiles, found.top1), (499.5, [499.0, 989.0, 998.0], 0.75));
        assert!(found.perplexity_change.abs() < 1e-9 && (found.reference_perplexity - 1.5f64.exp()).abs() < 1e-9);
        // The differences of the logarithms are ±0.1, so the error of their mean is 0.1/√999.
        let expected = 1.5f64.exp() * 0.1 / 999f64.sqrt();
        assert!((found.perplexity_change_error / expected - 1.0).abs() < 0.01, "{}", found.perplexity_change_error);
    }
}
