//! Bit streams of codes that are not bytes.

/// Packs codes of `bits` bits each, 57 at most, into bytes: one after the other, the lowest bit first. Codes have no higher
/// bits; the unused bits of the last byte are 0.
pub fn pack_bits(codes: impl ExactSizeIterator<Item = u64>, bits: usize) -> Vec<u8> {
    let mut packed = Vec::with_capacity((codes.len() * bits).div_ceil(8));
    // Fewer than 8 bits wait for the next code's.
    let (mut pending, mut count) = (0, 0);
    for code in codes {
        pending |= code << count;
        count += bits;
        while count >= 8 {
            packed.push(pending as u8);
            pending >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        packed.push(pending as u8);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_one_another_from_the_lowest_bit() {
        assert_eq!(pack_bits([0b101, 0b011, 0b110].into_iter(), 3), [0b1001_1101, 0b1]);
        assert_eq!(pack_bits([1 << 56, 1].into_iter(), 57), [0, 0, 0, 0, 0, 0, 0, 0b11, 0, 0, 0, 0, 0, 0, 0]);
        assert!(pack_bits([].into_iter(), 5).is_empty());
    }
}
