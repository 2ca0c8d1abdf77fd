//! Elements with index 15.

/// The index of an element whose exponent is stored in the section `escapes`.
pub(super) const ESCAPE: u8 = 15;

/// Elements in a word of indices.
const WORD: usize = 16;

/// The positions of the escapes among the elements of these indices, ascending.
pub(super) fn places(index: &[u8]) -> impl Iterator<Item = usize> {
    let (words, rest) = index.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // Usually there are none; whole vectors can test for that.
    let any = words.iter().fold(mask(last), |any, word| any | mask(*word)) != 0;
    let words = if any { words } else { &[] };
    let last = any.then_some(last);
    words.iter().copied().chain(last).enumerate().flat_map(|(i, word)| {
        let mut left = mask(word);
        std::iter::from_fn(move || {
            let place = (left != 0).then(|| i * WORD + left.trailing_zeros() as usize / 4);
            left &= left.wrapping_sub(1);
            place
        })
    })
}

/// The lowest bit of each nibble with all bits set.
fn mask(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let pairs = word & word >> 1;
    pairs & pairs >> 2 & 0x1111_1111_1111_1111
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_nibbles_of_ones() {
        for bytes in [0, 1, 7, 8, 9, 64, 67] {
            let byte = |i: u8| if i.is_multiple_of(5) { 0xef } else { i.wrapping_mul(73) };
            let index: Vec<u8> = (0..bytes).map(byte).collect();
            let nibbles = index.iter().flat_map(|byte| [byte & 15, byte >> 4]);
            let wanted: Vec<usize> =
                nibbles.enumerate().filter(|(_, nibble)| *nibble == ESCAPE).map(|(i, _)| i).collect();
            assert_eq!(places(&index).collect::<Vec<_>>(), wanted, "{bytes} bytes");
        }
        assert_eq!(places(&[0xee; 100]).count(), 0);
    }
}
