//! From multiples of the step to symbols, low bits and escapes.

use super::escapes;
use super::stats::{Stats, Uppers};

/// Largest reach: the number of symbols on each side of 0.
const MOST_REACH: u32 = 126;

/// Largest number of low bits.
const MOST_LOW_BITS: u32 = 16;

/// The symbol of an escape.
pub(crate) const ESCAPE: u8 = 0;

/// Counts of each symbol by parity and context; the contexts of odd multiples follow those of even
/// ones.
pub(crate) type Counts = [[u64; 256]];

/// How multiples are coded. The parity of the multiple `j` is that of its state, so only
/// `k = ⌊j/2⌋` is coded: its lowest `low_bits` bits raw, and the bits above them, `q`, as symbol
/// `q + reach + 1` for `q` from −reach to reach, otherwise as an escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alphabet {
    pub low_bits: u32,
    pub reach: u32,
}

impl Alphabet {
    /// `None` if a payload's values are out of range.
    pub(crate) fn new(low_bits: u8, reach: u8) -> Option<Self> {
        let (low_bits, reach) = (u32::from(low_bits), u32::from(reach));
        (low_bits <= MOST_LOW_BITS && reach <= MOST_REACH).then_some(Self { low_bits, reach })
    }

    /// Number of symbols, including the escape.
    pub(crate) fn symbols(self) -> usize {
        2 * self.reach as usize + 2
    }

    /// The upper part of a multiple: the bits above the low bits.
    #[inline(always)]
    pub(crate) fn upper(self, j: i32) -> i32 {
        j >> 1 >> self.low_bits
    }

    /// The symbol of an upper part.
    #[inline(always)]
    pub(crate) fn symbol(self, q: i32) -> u8 {
        if q.unsigned_abs() <= self.reach { (q + self.reach as i32 + 1) as u8 } else { ESCAPE }
    }

    /// Mean of the multiples of a parity that share a symbol, which is not the escape.
    pub(crate) fn middle(self, symbol: usize, parity: usize) -> f64 {
        let q = symbol as f64 - f64::from(self.reach) - 1.0;
        let width = f64::from(1u32 << self.low_bits);
        2.0 * (q * width + (width - 1.0) / 2.0) + parity as f64
    }

    /// The alphabet with about the fewest bits for multiples with these counts.
    pub(crate) fn best(stats: &Stats) -> Self {
        let mut best = (f64::INFINITY, Self { low_bits: 0, reach: 0 });
        for low_bits in 0..=MOST_LOW_BITS {
            let uppers = stats.uppers(low_bits);
            let beyond = uppers.iter().flatten().flat_map(|side| side.iter().skip(MOST_REACH as usize + 1));
            if beyond.map(|n| *n as usize).sum::<usize>() > stats.weights / 8 && low_bits < MOST_LOW_BITS {
                // Many multiples would be escapes, probably also with one more low bit, so this
                // cost says nothing about still wider symbols.
                continue;
            }
            let least = best.0;
            for reach in reaches(&uppers) {
                let cost = bits(&uppers, reach) + f64::from(low_bits) * stats.weights as f64;
                if cost < best.0 {
                    best = (cost, Self { low_bits, reach });
                }
            }
            // From here on, wider symbols cost more.
            if best.0 == least && least.is_finite() {
                break;
            }
        }
        best.1
    }
}

/// The reaches to try: those with few multiples beyond them.
fn reaches(uppers: &Uppers) -> Vec<u32> {
    let sides = || uppers.iter().flatten();
    let longest = sides().map(Vec::len).max().unwrap_or(0);
    let (mut beyond, mut reaches) = (0u64, Vec::new());
    let mut limit = 0u64;
    for magnitude in (0..longest).rev() {
        let here: u64 = sides().filter_map(|side| side.get(magnitude)).map(|n| u64::from(*n)).sum();
        if beyond + here > limit && magnitude <= MOST_REACH as usize {
            reaches.push(magnitude as u32);
            limit = 2 * (beyond + here);
        }
        beyond += here;
    }
    if reaches.is_empty() { vec![0] } else { reaches }
}

/// Bits of the escapes' text at this reach.
pub(crate) fn escaped(uppers: &Uppers, reach: u32) -> f64 {
    let beyond = uppers.iter().flatten().flat_map(|side| side.iter().enumerate().skip(reach as usize + 1));
    beyond.map(|(magnitude, n)| f64::from(*n) * escapes::bits(magnitude)).sum()
}

/// Bits of symbols, escapes and the text of tables at this reach.
fn bits(uppers: &Uppers, reach: u32) -> f64 {
    /// Approximate bits of the text of a frequency.
    const TEXT: f64 = 8.0;
    /// Bits of the text of a shape, which may replace all frequencies.
    const SHAPE: f64 = 56.0;
    let mut bits = 0.0;
    for sides in uppers {
        let inside = |side: &Vec<u32>| side.len().min(reach as usize + 1);
        let coded = || sides.iter().flat_map(|side| &side[..inside(side)]).map(|n| f64::from(*n));
        let escapes: f64 = sides.iter().flat_map(|side| &side[inside(side)..]).map(|n| f64::from(*n)).sum();
        let total = coded().sum::<f64>() + escapes;
        // No frequency is below 1/4096.
        let price =
            |n: f64| if n > 0.0 { n * libm::log2(total / n) + (total / 4096.0 - n).max(0.0) * 1.44 } else { 0.0 };
        bits += coded().map(price).sum::<f64>() + price(escapes);
    }
    bits + escaped(uppers, reach) + SHAPE.min(TEXT * f64::from(2 * (2 * reach + 1)))
}
