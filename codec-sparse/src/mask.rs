//! The stored units as one bit each, shared by all encoders.

use std::ops::Range;

use simd::kernel;

/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// One bit for each unit of a tensor, lowest bit first. Bits beyond the last unit are 0.
#[derive(Clone, Debug)]
pub(crate) struct Mask {
    words: Vec<u64>,
    units: usize,
    ones: usize,
}

impl Mask {
    /// Finds the units of `width` bytes with at least one bit set.
    pub(crate) fn scan(bytes: &[u8], width: usize) -> Self {
        let units = bytes.len() / width;
        let mut words = vec![0; units.div_ceil(WORD)];
        let ones = scan(bytes, width, &mut words);
        Self { words, units, ones }
    }

    /// A mask of `units` units, none of them stored.
    pub(crate) fn none(units: usize) -> Self {
        Self { words: vec![0; units.div_ceil(WORD)], units, ones: 0 }
    }

    /// Number of stored units.
    pub(crate) fn ones(&self) -> usize {
        self.ones
    }

    /// Calls `f` with the index of every stored unit in `range`, ascending.
    #[inline(always)]
    pub(crate) fn each(&self, range: Range<usize>, mut f: impl FnMut(usize)) {
        for (i, word) in (range.start / WORD..range.end.div_ceil(WORD)).zip(self.words[range.start / WORD..].iter()) {
            let (from, to) = (range.start.max(i * WORD) - i * WORD, range.end.min((i + 1) * WORD) - i * WORD);
            let mut left = word & (u64::MAX << from) & (u64::MAX >> (WORD - to));
            while left != 0 {
                f(i * WORD + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }

    /// The bytes of the stored units, concatenated.
    pub(crate) fn gather(&self, bytes: &[u8], width: usize) -> Vec<u8> {
        match width {
            1 => self.gather_units::<1>(bytes),
            2 => self.gather_units::<2>(bytes),
            4 => self.gather_units::<4>(bytes),
            _ => self.gather_units::<8>(bytes),
        }
    }

    fn gather_units<const WIDTH: usize>(&self, bytes: &[u8]) -> Vec<u8> {
        let units = bytes.as_chunks::<WIDTH>().0;
        let mut values = Vec::with_capacity(self.ones);
        self.each(0..self.units, |at| values.push(units[at]));
        values.into_flattened()
    }

    /// The bits of `len` units starting at `at`; at most [`u32::BITS`] units.
    pub(crate) fn bits(&self, at: usize, len: usize) -> u32 {
        let (word, shift) = (at / WORD, at % WORD);
        let low = self.words[word] >> shift;
        let high = if shift == 0 { 0 } else { self.words.get(word + 1).map_or(0, |high| high << (WORD - shift)) };
        ((low | high) & ((1 << len) - 1)) as u32
    }

    /// Also marks units as stored: bit `i` of `bits` stands for unit `at + i`.
    pub(crate) fn insert(&mut self, at: usize, bits: u32) {
        let (word, shift) = (at / WORD, at % WORD);
        let added = u128::from(bits) << shift;
        for (word, added) in self.words[word..].iter_mut().zip([added as u64, (added >> WORD) as u64]) {
            self.ones += (added & !*word).count_ones() as usize;
            *word |= added;
        }
    }

    /// The mask as bytes, lowest bit first.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(self.units.div_ceil(8));
        bytes
    }
}

kernel! {
    /// Sets the bits of the non-zero units, and counts them.
    fn scan<'a>(_simd, bytes: &'a [u8], width: usize, words: &'a mut [u64]) -> usize {
        match width {
            1 => scan_units::<1>(bytes, words),
            2 => scan_units::<2>(bytes, words),
            4 => scan_units::<4>(bytes, words),
            _ => scan_units::<8>(bytes, words),
        }
    }
}

#[inline(always)]
fn scan_units<const WIDTH: usize>(bytes: &[u8], words: &mut [u64]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<WIDTH>().0.as_chunks::<WORD>();
    let mut ones = 0;
    for (block, word) in blocks.iter().zip(&mut *words) {
        *word = nonzero(block);
        ones += word.count_ones() as usize;
    }
    if let Some(word) = words.get_mut(blocks.len()) {
        *word = rest.iter().enumerate().fold(0, |word, (i, unit)| word | u64::from(*unit != [0; WIDTH]) << i);
        ones += word.count_ones() as usize;
    }
    ones
}

/// The bits of 64 units.
#[inline(always)]
fn nonzero<const WIDTH: usize>(units: &[[u8; WIDTH]; WORD]) -> u64 {
    /// Gathers the lowest bits of eight bytes in the highest byte.
    const COLLECT: u64 = 0x0102_0408_1020_4080;
    let mut flags = [0u8; WORD];
    for (flag, unit) in flags.iter_mut().zip(units) {
        *flag = u8::from(*unit != [0; WIDTH]);
    }
    let eighths = flags.as_chunks().0.iter().map(|eight| u64::from_le_bytes(*eight).wrapping_mul(COLLECT) >> 56);
    eighths.enumerate().fold(0, |word, (i, bits)| word | bits << (8 * i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_finds_the_same_units() {
        let stored = |i: usize| i.is_multiple_of(7) || i % 64 == 63;
        for width in [1, 2, 4, 8] {
            for units in [0, 1, 63, 64, 65, 200] {
                // A non-zero unit has one set bit, in any of its bytes.
                let bytes: Vec<u8> = (0..units * width)
                    .map(|b| u8::from(stored(b / width) && b % width == b / width % width) << 7)
                    .collect();
                let mask = Mask::scan(&bytes, width);
                let expected: Vec<_> = (0..units).filter(|i| stored(*i)).collect();
                let mut found = Vec::new();
                mask.each(0..units, |at| found.push(at));
                assert_eq!((found, mask.ones()), (expected.clone(), expected.len()), "{units} units of {width}");
                let values: Vec<u8> = expected.iter().flat_map(|i| &bytes[i * width..][..width]).copied().collect();
                assert_eq!(mask.gather(&bytes, width), values);
            }
        }
    }

    #[test]
    fn ranges_and_groups_lie_anywhere() {
        let bytes: Vec<u8> = (0..300).map(|i| u8::from(i % 3 == 0)).collect();
        let mut mask = Mask::scan(&bytes, 1);
        for (from, to) in [(0, 0), (1, 130), (64, 128), (63, 65), (299, 300), (300, 300)] {
            let mut found = Vec::new();
            mask.each(from..to, |at| found.push(at));
            assert_eq!(found, (from..to).filter(|i| i % 3 == 0).collect::<Vec<_>>());
        }
        assert_eq!((mask.bits(60, 8), mask.bits(296, 4)), (0b0100_1001, 0b0010));
        mask.insert(62, 0b1111);
        assert_eq!((mask.bits(60, 8), mask.ones()), (0b0111_1101, 103));
        assert_eq!(mask.to_bytes().len(), 38);
    }
}
