//! Logarithms of integers, as costs need them: many, of small numbers.

use std::sync::LazyLock;

use crate::frequencies::TOTAL;

/// Logarithms of the integers up to the sum of all frequencies; that of 0 is not used.
static LOW: LazyLock<Vec<f64>> = LazyLock::new(|| (0..=TOTAL).map(|n| libm::log2(n.into())).collect());

/// The binary logarithm of an integer above 0, with the bits of `libm::log2`.
#[inline]
pub(crate) fn log2(n: u64) -> f64 {
    LOW.get(n as usize).copied().unwrap_or_else(|| libm::log2(n as f64))
}

/// Bits of an ideal code: number of symbols times entropy.
pub fn information(counts: &[u64]) -> f64 {
    let weighed = |n: u64| n as f64 * log2(n);
    weighed(counts.iter().sum::<u64>().max(1)) - counts.iter().filter(|n| **n > 1).map(|n| weighed(*n)).sum::<f64>()
}
