//! Logarithms of integers, as costs need them: many, of small numbers.

use std::sync::LazyLock;

use crate::frequencies::TOTAL;

/// Logarithms of the integers up to the sum of all frequencies; that of 0 is not used.
static LOW: LazyLock<Vec<f64>> = LazyLock::new(|| (0..=TOTAL).map(|n| libm::log2(n.into())).collect());

/// The binary logarithm of an integer above 0, with an error below 10⁻¹⁰.
#[inline]
pub(crate) fn log2(n: u64) -> f64 {
    let low = &LOW[..];
    if let Some(log) = low.get(n as usize) {
        return *log;
    }
    // n = (h + d)·2ˢ with an integer h of twelve bits, and d from 0 to 1.
    let shift = 64 - 12 - n.leading_zeros();
    let high = n >> shift;
    let d = (n - (high << shift)) as f64 / ((high << shift) as f64);
    low[high as usize] + f64::from(shift) + (d - d * d / 2.0) * std::f64::consts::LOG2_E
}

/// `n·log2(n)`, and 0 for 0.
#[inline]
fn weighed(n: u64) -> f64 {
    if n > 1 { n as f64 * log2(n) } else { 0.0 }
}

/// Bits of an ideal code: number of symbols times entropy.
pub fn information(counts: &[u64]) -> f64 {
    information_of(counts, counts.iter().sum())
}

/// Like [`information`], for counts with this sum.
pub(crate) fn information_of(counts: &[u64], total: u64) -> f64 {
    // Four sums in turn, so that an addition does not wait for the one before.
    let (fours, rest) = counts.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for four in fours {
        for (sum, n) in sums.iter_mut().zip(four) {
            *sum += weighed(*n);
        }
    }
    let rest: f64 = rest.iter().map(|n| weighed(*n)).sum();
    weighed(total) - (sums[0] + sums[1] + (sums[2] + sums[3])) - rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right() {
        let numbers = (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) + (1 << bit) / 3, u64::MAX >> bit]);
        for n in numbers.filter(|n| *n > 0) {
            assert!((log2(n) - libm::log2(n as f64)).abs() < 1e-10, "{n}");
        }
        assert!((information(&[0, 1, 1, 0, 2]) - 6.0).abs() < 1e-12);
        assert_eq!(information(&[0, 7]), 0.0);
    }
}
