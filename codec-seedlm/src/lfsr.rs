//! The generator behind every basis: a linear feedback shift register.

/// Bits of the word that holds a seed and all states of its block; at most 24 + 16·4 are used.
pub(crate) const WORD_BITS: u32 = u128::BITS;

/// A Fibonacci register of K bits that shifts to the right; the parity of the tapped bits enters at
/// the top. The feedback polynomials are primitive, so all states but zero are on one cycle of 2ᴷ −
/// 1.
#[derive(Clone, Debug)]
pub(crate) struct Lfsr {
    bits: u32,
    taps: u32,
    /// The words of all values of each byte of a seed.
    words: Vec<[u128; 256]>,
}

impl Lfsr {
    /// The register of `bits` bits: 8, 12, 16 or 24.
    pub(crate) fn new(bits: u32) -> Self {
        let taps = match bits {
            8 => 0b1_1101,
            12 => 0b1_0000_0111,
            16 => 0b1_0000_0000_1011,
            _ => 0b1000_0111,
        };
        let mut lfsr = Self { bits, taps, words: Vec::new() };
        lfsr.words = (0..bits.div_ceil(8)).map(|byte| lfsr.words_of_byte(8 * byte)).collect();
        lfsr
    }

    /// Heap bytes of the words.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.words.as_slice())
    }

    /// Number of states, and therefore of seeds: all but zero.
    fn period(&self) -> u32 {
        (1 << self.bits) - 1
    }

    /// The state after `state`.
    #[inline]
    pub(crate) fn next(&self, state: u32) -> u32 {
        state >> 1 | ((state & self.taps).count_ones() & 1) << (self.bits - 1)
    }

    /// A seed and the states it generates, in one word: the low K bits are the seed, and the K bits
    /// from bit `j` on are the state after `j` steps.
    #[inline]
    pub(crate) fn word(&self, seed: u32) -> u128 {
        let bytes = seed.to_le_bytes();
        self.words.iter().zip(bytes).fold(0, |word, (words, byte)| word ^ words[usize::from(byte)])
    }

    /// The register is linear: the word of a seed is the exclusive or of the words of its bits.
    fn words_of_byte(&self, shift: u32) -> [u128; 256] {
        let mut words = [0; 256];
        for byte in 1..words.len() {
            let rest = byte & (byte - 1);
            let bit = ((byte ^ rest) as u32) << shift & self.period();
            words[byte] = if rest == 0 { self.word_of_state(bit) } else { words[rest] ^ words[byte ^ rest] };
        }
        words
    }

    fn word_of_state(&self, seed: u32) -> u128 {
        let (mut word, mut state) = (u128::from(seed), seed);
        for place in self.bits..WORD_BITS {
            state = self.next(state);
            word |= u128::from(state >> (self.bits - 1)) << place;
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_visits_every_state() {
        for bits in [8, 12, 16, 24] {
            let lfsr = Lfsr::new(bits);
            let (mut state, mut steps) = (lfsr.next(1), 1);
            while state != 1 {
                state = lfsr.next(state);
                steps += 1;
            }
            assert_eq!(steps, lfsr.period(), "{bits} bits");
        }
    }

    #[test]
    fn a_word_holds_the_states_that_follow_its_seed() {
        for bits in [8, 12, 16, 24] {
            let lfsr = Lfsr::new(bits);
            for seed in [1, 2, 77, lfsr.period() / 3, lfsr.period()] {
                let word = lfsr.word(seed);
                let mut state = seed;
                for j in 0..=WORD_BITS - bits {
                    assert_eq!((word >> j) as u32 & lfsr.period(), state, "{bits} bits, seed {seed}, step {j}");
                    state = lfsr.next(state);
                }
            }
        }
    }

    #[test]
    fn the_stream_of_sixteen_bits_is_the_published_one() {
        // Taps 0, 1, 3, 12: the first states after seed 1, by hand.
        let lfsr = Lfsr::new(16);
        let mut state = 1;
        let states: Vec<u32> = (0..5)
            .map(|_| {
                state = lfsr.next(state);
                state
            })
            .collect();
        assert_eq!(states, [0x8000, 0x4000, 0x2000, 0x1000, 0x8800]);
    }
}
