//! What one codec did to several tensors.

use serde::Deserialize;

/// Bytes of a weight: every tensor of the suites that the tasks measure is F32.
const DENSE: f64 = 4.0;

/// A cell that is `ok`: keys of the JSON Lines report, which the harness documents.
#[derive(Clone, Debug, Deserialize)]
pub struct Measured {
    pub weights: u64,
    pub bytes: u64,
    pub nmse: f64,
    pub relative_error: f64,
    pub mse: f64,
    pub max_abs_error: f64,
    pub encode_mb_per_s: f64,
    pub decode_mb_per_s: f64,
}

impl Measured {
    /// Dense F32 bytes to section bytes.
    pub fn ratio(&self) -> f64 {
        self.weights as f64 * DENSE / self.bytes as f64
    }

    /// Bits per weight.
    pub fn bits(&self) -> f64 {
        8.0 * self.bytes as f64 / self.weights as f64
    }

    /// Weights encoded in a second.
    pub fn encode_speed(&self) -> f64 {
        self.encode_mb_per_s * 1e6 / DENSE
    }

    /// Weights decoded in a second.
    pub fn decode_speed(&self) -> f64 {
        self.decode_mb_per_s * 1e6 / DENSE
    }

    fn encode_seconds(&self) -> f64 {
        self.weights as f64 * DENSE / 1e6 / self.encode_mb_per_s
    }
}

/// Several tensors through one codec; sums and means are of the cells that are `ok`.
#[derive(Debug)]
pub struct Column<'a> {
    ok: Vec<&'a Measured>,
    cells: usize,
}

impl<'a> FromIterator<Option<&'a Measured>> for Column<'a> {
    fn from_iter<I: IntoIterator<Item = Option<&'a Measured>>>(cells: I) -> Self {
        let cells: Vec<_> = cells.into_iter().collect();
        Self { ok: cells.iter().copied().flatten().collect(), cells: cells.len() }
    }
}

impl Column<'_> {
    /// All weights.
    pub fn weights(&self) -> u64 {
        self.ok.iter().map(|cell| cell.weights).sum()
    }

    /// All dense bytes to all section bytes.
    pub fn ratio(&self) -> f64 {
        self.weights() as f64 * DENSE / self.bytes() as f64
    }

    /// Bits per weight over all tensors.
    pub fn bits(&self) -> f64 {
        8.0 * self.bytes() as f64 / self.weights() as f64
    }

    /// All section bytes.
    pub fn bytes(&self) -> u64 {
        self.ok.iter().map(|cell| cell.bytes).sum()
    }

    /// Part of the cells that are `ok`.
    pub fn success(&self) -> f64 {
        self.ok.len() as f64 / self.cells as f64
    }

    /// Seconds for encoding each tensor once.
    pub fn encode_seconds(&self) -> f64 {
        self.ok.iter().map(|cell| cell.encode_seconds()).sum()
    }

    /// Weights per second over all tensors.
    pub fn weights_per_second(&self) -> f64 {
        self.weights() as f64 / self.encode_seconds()
    }

    /// Mean and standard deviation of a tensor's encoding time in seconds.
    pub fn encode_spread(&self) -> (f64, f64) {
        self.spread(Measured::encode_seconds)
    }

    /// Mean and standard deviation of the relative Frobenius errors.
    pub fn error_spread(&self) -> (f64, f64) {
        self.spread(|cell| cell.relative_error)
    }

    /// The largest relative Frobenius error.
    pub fn max_error(&self) -> f64 {
        self.largest(|cell| cell.relative_error)
    }

    /// The largest mean squared error of a tensor.
    pub fn max_mse(&self) -> f64 {
        self.largest(|cell| cell.mse)
    }

    /// The largest error of a weight.
    pub fn max_abs_error(&self) -> f64 {
        self.largest(|cell| cell.max_abs_error)
    }

    /// Mean of the tensors' NMSEs; `None` if not all cells are `ok`.
    pub fn mean_nmse(&self) -> Option<f64> {
        (self.ok.len() == self.cells).then(|| self.spread(|cell| cell.nmse).0)
    }

    /// Summed squared errors to summed energies; `None` if a tensor came back exactly and others did not, for
    /// its energy is not known then.
    pub fn pooled_nmse(&self) -> Option<f64> {
        if self.ok.iter().all(|cell| cell.nmse == 0.0) {
            return Some(0.0);
        }
        let squared = |cell: &Measured| cell.mse * cell.weights as f64;
        let energy: f64 = self.ok.iter().map(|cell| squared(cell) / cell.nmse).sum();
        Some(self.ok.iter().map(|cell| squared(cell)).sum::<f64>() / energy).filter(|nmse| nmse.is_finite())
    }

    /// Mean of the tensors' mean squared errors.
    pub fn mean_mse(&self) -> f64 {
        self.spread(|cell| cell.mse).0
    }

    fn largest(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        self.ok.iter().map(|cell| of(cell)).fold(0.0, f64::max)
    }

    fn spread(&self, of: impl Fn(&Measured) -> f64) -> (f64, f64) {
        let mean =
            |of: &dyn Fn(&Measured) -> f64| self.ok.iter().map(|cell| of(cell)).sum::<f64>() / self.ok.len() as f64;
        let middle = mean(&of);
        (middle, mean(&|cell| (of(cell) - middle).powi(2)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(weights: u64, bytes: u64, relative_error: f64) -> Measured {
        // One second for 10⁶ weights.
        let (encode_mb_per_s, decode_mb_per_s) = (4.0, 8.0);
        let (nmse, mse, max_abs_error) = (relative_error.powi(2), relative_error, relative_error);
        Measured { weights, bytes, nmse, relative_error, mse, max_abs_error, encode_mb_per_s, decode_mb_per_s }
    }

    #[test]
    fn sums_weigh_by_size_and_means_do_not() {
        let (small, large) = (cell(1_000_000, 1_000_000, 0.1), cell(3_000_000, 1_000_000, 0.3));
        let column: Column = [Some(&small), None, Some(&large), None].into_iter().collect();
        assert_eq!((column.weights(), column.ratio(), column.success()), (4_000_000, 8.0, 0.5));
        assert_eq!((column.encode_seconds(), column.weights_per_second()), (4.0, 1e6));
        assert_eq!(column.encode_spread(), (2.0, 1.0));
        let (mean, deviation) = column.error_spread();
        assert!((mean - 0.2).abs() < 1e-12 && (deviation - 0.1).abs() < 1e-12);
        assert_eq!((column.max_error(), column.mean_mse()), (0.3, mean));
        assert_eq!((column.bytes(), column.max_mse(), column.max_abs_error()), (2_000_000, 0.3, 0.3));
        // Squared errors .1 and .9 of a million each, energies 10 and 10.
        assert!((column.pooled_nmse().unwrap() - 0.05).abs() < 1e-12);
        assert_eq!(column.bits(), 4.0);
        assert_eq!((large.ratio(), small.bits()), (12.0, 8.0));
        assert_eq!((large.encode_speed(), large.decode_speed()), (1e6, 2e6));
        let both: Column = [Some(&small), Some(&large)].into_iter().collect();
        assert!((both.mean_nmse().unwrap() - 0.05).abs() < 1e-12 && column.mean_nmse().is_none());
    }

    #[test]
    fn exact_tensors_have_no_energy_to_be_pooled() {
        let (exact, lossy) = (cell(8, 32, 0.0), cell(8, 8, 0.1));
        assert_eq!([Some(&exact)].into_iter().collect::<Column>().pooled_nmse(), Some(0.0));
        assert_eq!([Some(&exact), Some(&lossy)].into_iter().collect::<Column>().pooled_nmse(), None);
    }
}
