//! Expected frequencies of symbols, in units of 2⁻¹².

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::logarithms::log2;

/// Precision of a table in bits: frequencies add up to `2^PRECISION`.
pub const PRECISION: u32 = 12;

/// Sum of all frequencies.
pub(crate) const TOTAL: u32 = 1 << PRECISION;

/// Number of symbols.
const SYMBOLS: usize = 256;

/// A frequency for each of 256 symbols: at least 1 for a symbol that occurs, and 2¹² in total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequencies([u16; SYMBOLS]);

impl Frequencies {
    /// From frequencies that add up to 2¹².
    pub(crate) fn from_raw(frequencies: &[u16; SYMBOLS]) -> Self {
        Self(*frequencies)
    }

    /// The frequencies with the lowest cost in bits for these counts; `None` if all counts are 0.
    pub fn of_counts(counts: &[u64; SYMBOLS]) -> Option<Self> {
        // Scaled to leave room for the multiplication below.
        let largest = counts.iter().copied().max().filter(|n| *n > 0)?;
        let shift = (64 - largest.leading_zeros()).saturating_sub(32);
        let counts = counts.map(|n| if n == 0 { 0 } else { (n >> shift).max(1) });
        let total: u64 = counts.iter().sum();
        let mut frequencies = counts.map(|n| if n == 0 { 0 } else { (n * u64::from(TOTAL) / total).max(1) as u16 });
        balance(&counts, &mut frequencies);
        Some(Self(frequencies))
    }

    /// The frequencies with the lowest cost in bits for these probabilities, which belong to the
    /// symbols 0, 1, …. They need not add up to 1. Every symbol with a probability above 0 gets a
    /// frequency of at least 1. `None` if none is above 0, or if there are more than 256.
    pub fn of_probabilities(probabilities: &[f64]) -> Option<Self> {
        let mut counts = [0; SYMBOLS];
        for (count, p) in counts.get_mut(..probabilities.len())?.iter_mut().zip(probabilities) {
            *count = if *p > 0.0 { ((p * (1u64 << 40) as f64) as u64).max(1) } else { 0 };
        }
        Self::of_counts(&counts)
    }

    /// The frequencies with the lowest cost in bits for these symbols; `None` if there are none.
    pub fn of_symbols(symbols: &[u8]) -> Option<Self> {
        Self::of_counts(&count(symbols))
    }

    /// The frequency of a symbol.
    pub fn get(&self, symbol: u8) -> u16 {
        self.0[usize::from(symbol)]
    }

    /// The symbols that occur; for each one `(symbol, start, frequency)`, where `start` is the sum
    /// of the frequencies before it.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u8, u32, u32)> {
        let mut start = 0;
        (0..=u8::MAX).zip(self.0).filter(|(_, f)| *f > 0).map(move |(symbol, f)| {
            let before = start;
            start += u32::from(f);
            (symbol, before, f.into())
        })
    }

    /// Cost in bits of symbols with these counts; infinite if one of them has frequency 0.
    pub fn cost(&self, counts: &[u64; SYMBOLS]) -> f64 {
        let pairs = counts.iter().zip(self.0).filter(|(n, _)| **n > 0);
        pairs
            .map(|(n, f)| if f == 0 { f64::INFINITY } else { *n as f64 * (f64::from(PRECISION) - log2(f.into())) })
            .sum()
    }

    /// Appends the frequencies: the first and the last symbol that occur, then the frequency of
    /// each symbol from the first to the one before the last. A frequency below 128 takes a byte;
    /// others take two, and the first of them holds the low seven bits plus 128.
    pub fn write(&self, out: &mut Vec<u8>) {
        let first = self.0.iter().position(|f| *f > 0).unwrap_or_default();
        let last = self.0.iter().rposition(|f| *f > 0).unwrap_or_default();
        out.extend([first as u8, last as u8]);
        for f in &self.0[first..last] {
            if *f < 0x80 {
                out.push(*f as u8);
            } else {
                out.extend([(f & 0x7f | 0x80) as u8, (f >> 7) as u8]);
            }
        }
    }

    /// Reads the output of [`Self::write`] and moves `bytes` behind it; `None` for other bytes.
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (&[first, last], mut rest) = bytes.split_first_chunk()?;
        if last < first {
            return None;
        }
        let (mut frequencies, mut left) = ([0; SYMBOLS], TOTAL);
        for f in &mut frequencies[first.into()..last.into()] {
            let (low, after) = rest.split_first()?;
            (*f, rest) = (u16::from(low & 0x7f), after);
            if *low >= 0x80 {
                let (high, after) = rest.split_first()?;
                (*f, rest) = (*f | u16::from(*high) << 7, after);
            }
            left = left.checked_sub((*f).into())?;
        }
        // The last symbol occurs, and so does the first.
        frequencies[usize::from(last)] = left as u16;
        if left == 0 || frequencies[usize::from(first)] == 0 {
            return None;
        }
        *bytes = rest;
        Some(Self(frequencies))
    }
}

/// Number of occurrences of each symbol.
pub fn count(symbols: &[u8]) -> [u64; SYMBOLS] {
    // Four tables in turn, so that equal neighbours do not wait for each other.
    let mut tables = [[0u64; SYMBOLS]; 4];
    let (fours, rest) = symbols.as_chunks::<4>();
    for four in fours {
        for (table, symbol) in tables.iter_mut().zip(four) {
            table[usize::from(*symbol)] += 1;
        }
    }
    for symbol in rest {
        tables[0][usize::from(*symbol)] += 1;
    }
    std::array::from_fn(|symbol| tables.iter().map(|table| table[symbol]).sum())
}

/// Raises or lowers single frequencies by one until the sum is right, each time where this gains
/// most or costs least in bits; of equal candidates it takes the lowest symbol. Raising symbol `s`
/// gains `n·log((f + 1)/f)`, about `n/(f + ½)`; lowering it costs about `n/(f − ½)`.
fn balance(counts: &[u64; SYMBOLS], frequencies: &mut [u16; SYMBOLS]) {
    let mut sum: u32 = frequencies.iter().map(|f| u32::from(*f)).sum();
    if sum == TOTAL {
        return;
    }
    let raise = sum < TOTAL;
    // `None` if the symbol does not occur, or has the least frequency already.
    let step = |symbol: usize, f: u16| {
        let (n, double, symbol) = (counts[symbol], 2 * u64::from(f), Reverse(symbol));
        if raise {
            (n > 0).then_some(Step { above: n, below: double + 1, symbol })
        } else {
            (f > 1).then(|| Step { above: double - 1, below: n, symbol })
        }
    };
    let mut steps: BinaryHeap<Step> = (0..).zip(&*frequencies).filter_map(|(symbol, f)| step(symbol, *f)).collect();
    while sum != TOTAL {
        let Some(Step { symbol: Reverse(symbol), .. }) = steps.pop() else { return };
        let f = &mut frequencies[symbol];
        (*f, sum) = if raise { (*f + 1, sum + 1) } else { (*f - 1, sum - 1) };
        steps.extend(step(symbol, *f));
    }
}

/// A change of one frequency by one. The best step has the largest quotient `above / below`.
struct Step {
    above: u64,
    below: u64,
    symbol: Reverse<usize>,
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.above * other.below).cmp(&(other.above * self.below)).then(self.symbol.cmp(&other.symbol))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Step {}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(u8, u64)]) -> [u64; SYMBOLS] {
        let mut counts = [0; SYMBOLS];
        for (symbol, n) in pairs {
            counts[usize::from(*symbol)] = *n;
        }
        counts
    }

    #[test]
    fn every_symbol_that_occurs_has_a_place() {
        assert_eq!(Frequencies::of_counts(&[0; SYMBOLS]), None);
        for counts in [
            counts(&[(7, 1)]),
            counts(&[(0, 1), (255, u64::MAX)]),
            [1; SYMBOLS],
            [u64::MAX; SYMBOLS],
            std::array::from_fn(|i| (i as u64).pow(7)),
            std::array::from_fn(|i| 1 << (i / 4)),
        ] {
            let frequencies = Frequencies::of_counts(&counts).expect("something is counted");
            assert_eq!(frequencies.0.iter().map(|f| u32::from(*f)).sum::<u32>(), TOTAL);
            assert!(frequencies.0.iter().zip(counts).all(|(f, n)| (*f > 0) == (n > 0)));
        }
    }

    #[test]
    fn frequencies_cost_little_more_than_the_entropy() {
        let counts: [u64; SYMBOLS] = std::array::from_fn(|i| 1_000_000 >> (i / 16).min(8));
        let total: u64 = counts.iter().sum();
        let entropy: f64 = counts.iter().map(|n| -(*n as f64) * libm::log2(*n as f64 / total as f64)).sum();
        let cost = Frequencies::of_counts(&counts).expect("counts").cost(&counts);
        assert!(entropy <= cost && cost < 1.002 * entropy, "{cost} bits, the entropy is {entropy}");
        // No single exchange lowers the cost by much.
        let frequencies = Frequencies::of_counts(&counts).expect("counts").0;
        for (up, down) in (0..128).flat_map(|up| (0..128).map(move |down| (up, down))).filter(|(up, down)| up != down) {
            let mut other = frequencies;
            (other[up], other[down]) = (other[up] + 1, other[down] - 1);
            assert!(other[down] == 0 || Frequencies(other).cost(&counts) > cost * (1.0 - 1e-5), "{up} {down}");
        }
    }

    #[test]
    fn a_distribution_is_as_good_as_counts_of_it() {
        let probabilities = crate::parametric::gaussian(0.1, 60);
        let frequencies = Frequencies::of_probabilities(&probabilities).expect("probabilities");
        let mut counts = [0; SYMBOLS];
        counts.iter_mut().zip(&probabilities).for_each(|(n, p)| *n = (p * 1e9) as u64);
        let counted = Frequencies::of_counts(&counts).expect("counts");
        assert!((frequencies.cost(&counts) / counted.cost(&counts) - 1.0).abs() < 1e-3);
        assert_eq!(Frequencies::of_probabilities(&[0.0; 256]), None);
        assert_eq!(Frequencies::of_probabilities(&[1.0; 257]), None);
        assert!(Frequencies::of_probabilities(&[1.0, 1e-300]).is_some_and(|f| f.get(1) == 1));
    }

    #[test]
    fn what_is_written_is_read() {
        for counts in [counts(&[(0, 1)]), counts(&[(255, 9)]), counts(&[(3, 5), (200, 70)]), [3; SYMBOLS]] {
            let frequencies = Frequencies::of_counts(&counts).expect("counts");
            let mut bytes = Vec::new();
            frequencies.write(&mut bytes);
            for end in 0..bytes.len() {
                assert_eq!(Frequencies::read(&mut &bytes[..end]), None, "{end} bytes");
            }
            bytes.push(77);
            let mut rest = &bytes[..];
            assert_eq!(Frequencies::read(&mut rest), Some(frequencies));
            assert_eq!(rest, [77]);
        }
        for wrong in [&[5, 4, 1][..], &[0, 1, 0], &[0, 1, 0x80, 0x20], &[0, 1, 0xff, 0xff]] {
            assert_eq!(Frequencies::read(&mut &*wrong), None, "{wrong:?}");
        }
    }
}
