//! From multiples of the step to what is coded: a symbol, low bits, and what is too rare for a symbol.

use super::escapes;
use super::stats::{Stats, Uppers};

/// Symbols besides the escape: as many on either side of 0 at most.
const MOST_REACH: u32 = 126;

/// Low bits at most.
const MOST_LOW_BITS: u32 = 16;

/// The symbol that says: see the escapes.
pub(super) const ESCAPE: u8 = 0;

/// The multiple `j` has the parity of its state; `k = ⌊j/2⌋` is what is coded: the lowest `low_bits` of it as they are, and above them `q`, which is
/// symbol `q + reach + 1` if it is from −reach to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alphabet {
    pub low_bits: u32,
    pub reach: u32,
}

impl Alphabet {
    /// Checks what a payload says.
    pub(super) fn new(low_bits: u8, reach: u8) -> Option<Self> {
        let (low_bits, reach) = (u32::from(low_bits), u32::from(reach));
        (low_bits <= MOST_LOW_BITS && reach <= MOST_REACH).then_some(Self { low_bits, reach })
    }

    /// Symbols, with the escape.
    pub(super) fn symbols(self) -> usize {
        2 * self.reach as usize + 2
    }

    /// What is above the low bits.
    #[inline(always)]
    pub(super) fn upper(self, j: i32) -> i32 {
        j >> 1 >> self.low_bits
    }

    /// The symbol of an upper part.
    #[inline(always)]
    pub(super) fn symbol(self, q: i32) -> u8 {
        if q.unsigned_abs() <= self.reach { (q + self.reach as i32 + 1) as u8 } else { ESCAPE }
    }

    /// The middle of the multiples of a parity that have a symbol other than the escape.
    pub(super) fn middle(self, symbol: usize, parity: usize) -> f64 {
        let q = symbol as f64 - f64::from(self.reach) - 1.0;
        let width = f64::from(1u32 << self.low_bits);
        2.0 * (q * width + (width - 1.0) / 2.0) + parity as f64
    }

    /// The alphabet in which multiples counted like these take the fewest bits, nearly.
    pub(super) fn best(stats: &Stats) -> Self {
        let mut best = (f64::INFINITY, Self { low_bits: 0, reach: 0 });
        for low_bits in 0..=MOST_LOW_BITS {
            let uppers = stats.uppers(low_bits);
            let beyond = uppers.iter().flatten().flat_map(|side| side.iter().skip(MOST_REACH as usize + 1));
            if beyond.map(|n| *n as usize).sum::<usize>() > stats.weights / 8 && low_bits < MOST_LOW_BITS {
                // Many would be escapes, and those of wider symbols too: that says nothing of still wider ones.
                continue;
            }
            let least = best.0;
            for reach in reaches(&uppers) {
                let cost = bits(&uppers, reach) + f64::from(low_bits) * stats.weights as f64;
                if cost < best.0 {
                    best = (cost, Self { low_bits, reach });
                }
            }
            // Wider symbols cost more from here on.
            if best.0 == least && least.is_finite() {
                break;
            }
        }
        best.1
    }
}

/// Reaches worth a try: those beyond which there are few.
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

/// Bits of the text of escapes, where upper parts reach so far.
pub(super) fn escaped(uppers: &Uppers, reach: u32) -> f64 {
    let beyond = uppers.iter().flatten().flat_map(|side| side.iter().enumerate().skip(reach as usize + 1));
    beyond.map(|(magnitude, n)| f64::from(*n) * escapes::bits(magnitude)).sum()
}

/// Bits of symbols and escapes, and of the tables' text, where upper parts reach so far.
fn bits(uppers: &Uppers, reach: u32) -> f64 {
    /// Bits of a frequency's text, about.
    const TEXT: f64 = 8.0;
    /// Bits of the text of a shape, which may stand for all frequencies.
    const SHAPE: f64 = 56.0;
    let mut bits = 0.0;
    for sides in uppers {
        let inside = |side: &Vec<u32>| side.len().min(reach as usize + 1);
        let coded = || sides.iter().flat_map(|side| &side[..inside(side)]).map(|n| f64::from(*n));
        let escapes: f64 = sides.iter().flat_map(|side| &side[inside(side)..]).map(|n| f64::from(*n)).sum();
        let total = coded().sum::<f64>() + escapes;
        // No frequency is below a 4096th.
        let price =
            |n: f64| if n > 0.0 { n * libm::log2(total / n) + (total / 4096.0 - n).max(0.0) * 1.44 } else { 0.0 };
        bits += coded().map(price).sum::<f64>() + price(escapes);
    }
    bits + escaped(uppers, reach) + SHAPE.min(TEXT * f64::from(2 * (2 * reach + 1)))
}
