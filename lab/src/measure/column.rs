//! The results of one codec on several tensors.

use harness::matrix::{Row, Status};

/// Bytes of a weight: every tensor of the suites that the tasks measure is F32.
const DENSE: f64 = 4.0;

/// The figures of a cell that is `ok`; [`Row`] documents them.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub weights: u64,
    pub bytes: u64,
    /// ‖w‖².
    pub energy: f64,
    pub nmse: f64,
    pub relative_error: f64,
    pub mse: f64,
    pub max_abs_error: f64,
    pub encode_mb_per_s: f64,
    pub decode_mb_per_s: f64,
}

impl Measured {
    /// `None` if the cell is not `ok`, or one of its figures is unknown.
    pub fn of(row: &Row) -> Option<Self> {
        if row.status != Status::Ok {
            return None;
        }
        Some(Self {
            weights: row.weights,
            bytes: row.bytes?,
            energy: row.energy?,
            nmse: row.nmse?,
            relative_error: row.relative_error?,
            mse: row.mse?,
            max_abs_error: row.max_abs_error?,
            encode_mb_per_s: row.encode_mb_per_s?,
            decode_mb_per_s: row.decode_mb_per_s?,
        })
    }

    /// Dense F32 bytes to section bytes.
    pub fn ratio(&self) -> f64 {
        self.weights as f64 * DENSE / self.bytes as f64
    }

    /// Bits per weight.
    pub fn bits(&self) -> f64 {
        8.0 * self.bytes as f64 / self.weights as f64
    }

    /// Weights encoded per second.
    pub fn encode_speed(&self) -> f64 {
        self.encode_mb_per_s * 1e6 / DENSE
    }

    /// Weights decoded per second.
    pub fn decode_speed(&self) -> f64 {
        self.decode_mb_per_s * 1e6 / DENSE
    }

    fn encode_seconds(&self) -> f64 {
        self.weights as f64 * DENSE / 1e6 / self.encode_mb_per_s
    }
}

/// Several tensors through one codec. Sums and means are over the cells that are `ok`.
#[derive(Debug)]
pub struct Column {
    ok: Vec<Measured>,
    cells: usize,
}

impl FromIterator<Option<Measured>> for Column {
    fn from_iter<I: IntoIterator<Item = Option<Measured>>>(cells: I) -> Self {
        let cells: Vec<_> = cells.into_iter().collect();
        Self { ok: cells.iter().copied().flatten().collect(), cells: cells.len() }
    }
}

impl Column {
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

    /// Fraction of the cells that are `ok`.
    pub fn success(&self) -> f64 {
        self.ok.len() as f64 / self.cells as f64
    }

    /// Seconds to encode each tensor once.
    pub fn encode_seconds(&self) -> f64 {
        self.ok.iter().map(Measured::encode_seconds).sum()
    }

    /// Weights per second over all tensors.
    pub fn weights_per_second(&self) -> f64 {
        self.weights() as f64 / self.encode_seconds()
    }

    /// Mean and standard deviation of the encoding time per tensor, in seconds.
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

    /// Σ‖w − ŵ‖²/Σ‖w‖².
    pub fn pooled_nmse(&self) -> f64 {
        // By way of the NMSE: tensors with an NMSE of exactly 1 pool to exactly 1.
        let squared: f64 = self.ok.iter().map(|cell| cell.nmse * cell.energy).sum();
        if squared == 0.0 { 0.0 } else { squared / self.ok.iter().map(|cell| cell.energy).sum::<f64>() }
    }

    /// Mean of the tensors' mean squared errors.
    pub fn mean_mse(&self) -> f64 {
        self.spread(|cell| cell.mse).0
    }

    fn largest(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        self.ok.iter().map(of).fold(0.0, f64::max)
    }

    fn spread(&self, of: impl Fn(&Measured) -> f64) -> (f64, f64) {
        let mean = |of: &dyn Fn(&Measured) -> f64| self.ok.iter().map(of).sum::<f64>() / self.ok.len() as f64;
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
        let energy = mse * weights as f64 / nmse;
        Measured { weights, bytes, energy, nmse, relative_error, mse, max_abs_error, encode_mb_per_s, decode_mb_per_s }
    }

    #[test]
    fn sums_weigh_by_size_and_means_do_not() {
        let (small, large) = (cell(1_000_000, 1_000_000, 0.1), cell(3_000_000, 1_000_000, 0.3));
        let column: Column = [Some(small), None, Some(large), None].into_iter().collect();
        assert_eq!((column.weights(), column.ratio(), column.success()), (4_000_000, 8.0, 0.5));
        assert_eq!((column.encode_seconds(), column.weights_per_second()), (4.0, 1e6));
        assert_eq!(column.encode_spread(), (2.0, 1.0));
        let (mean, deviation) = column.error_spread();
        assert!((mean - 0.2).abs() < 1e-12 && (deviation - 0.1).abs() < 1e-12);
        assert_eq!((column.max_error(), column.mean_mse()), (0.3, mean));
        assert_eq!((column.bytes(), column.max_mse(), column.max_abs_error()), (2_000_000, 0.3, 0.3));
        // Squared errors .1 and .9 of a million each, energies 10 and 10.
        assert!((column.pooled_nmse() - 0.05).abs() < 1e-12);
        assert_eq!(column.bits(), 4.0);
        assert_eq!((large.ratio(), small.bits()), (12.0, 8.0));
        assert_eq!((large.encode_speed(), large.decode_speed()), (1e6, 2e6));
        let both: Column = [Some(small), Some(large)].into_iter().collect();
        assert!((both.mean_nmse().unwrap() - 0.05).abs() < 1e-12 && column.mean_nmse().is_none());
    }
}
