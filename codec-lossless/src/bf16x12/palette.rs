//! The exponents that have an index.

use std::cmp::Reverse;

use codec_api::{PayloadView, Result};
use simd::LANES;

use super::PALETTE;
use super::escapes::ESCAPE;

/// At most fifteen exponents, ascending.
#[derive(Debug)]
pub(super) struct Palette(Vec<u8>);

impl Palette {
    /// The most frequent of the exponents that occur; among equally frequent ones the lower.
    pub(super) fn of(counts: &[u64; 256]) -> Self {
        let mut exponents: Vec<u8> = (0..=u8::MAX).filter(|e| counts[usize::from(*e)] > 0).collect();
        exponents.sort_by_key(|e| Reverse(counts[usize::from(*e)]));
        exponents.truncate(usize::from(ESCAPE));
        exponents.sort_unstable();
        Self(exponents)
    }

    /// Reads the section `palette`.
    pub(super) fn read(payload: &PayloadView<'_>) -> Result<Self> {
        let exponents = payload.byte_section(PALETTE)?;
        if exponents.len() > usize::from(ESCAPE) || !exponents.is_sorted_by(|a, b| a < b) {
            return Err(payload.corrupt(PALETTE, "it is not at most 15 exponents, ascending"));
        }
        Ok(Self(exponents.to_vec()))
    }

    /// The exponents, one byte each.
    pub(super) fn exponents(&self) -> &[u8] {
        &self.0
    }

    /// The index of every exponent, [`ESCAPE`] outside the palette.
    pub(super) fn indices(&self) -> [u8; 256] {
        let mut indices = [ESCAPE; 256];
        for (index, e) in (0..).zip(&self.0) {
            indices[usize::from(*e)] = index;
        }
        indices
    }

    /// For each index, the float with that exponent, and with sign and mantissa zero. An unused
    /// index gets an exponent outside the palette. No encoder writes such an index, and so it
    /// decodes to a value that no element had.
    pub(super) fn floats(&self) -> [f32; LANES] {
        let absent = (0..=u8::MAX).find(|e| !self.0.contains(e)).unwrap_or_default();
        let exponent = |index| u32::from(self.0.get(index).copied().unwrap_or(absent));
        std::array::from_fn(|index| f32::from_bits(exponent(index) << 23))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_exponents_have_indices_and_of_equals_the_lower() {
        let mut counts = [0; 256];
        counts[100..120].fill(1);
        counts[119] = 2;
        let palette = Palette::of(&counts);
        assert_eq!(palette.exponents(), [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 119]);
        let indices = palette.indices();
        assert_eq!((indices[100], indices[113], indices[114], indices[119], indices[0]), (0, 13, 15, 14, 15));
    }

    #[test]
    fn an_index_without_an_exponent_means_one_that_does_not_occur() {
        let mut counts = [0; 256];
        counts[0] = 7;
        counts[2] = 7;
        let floats = Palette::of(&counts).floats();
        assert_eq!(floats.map(|f| f.to_bits() >> 23), [0, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    }
}
