//! Bit streams of codes whose width is not 8 bits.

/// Packs codes of `bits` bits each (at most 57) into bytes, one after the other, lowest bit first.
/// All higher bits of a code must be 0. The unused bits of the last byte are 0.
pub fn pack_bits(codes: impl ExactSizeIterator<Item = u64>, bits: usize) -> Vec<u8> {
    let mut packed = Vec::with_capacity((codes.len() * bits).div_ceil(8));
    // Fewer than 8 bits remain pending between two codes.
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

/// The inverse of [`pack_bits`]: reads codes of `bits` bits each (at most 57) until the bytes are
/// used up. Missing bits of the last code are 0, so there may be more codes than were packed.
pub fn unpack_bits(packed: &[u8], bits: usize) -> impl Iterator<Item = u64> {
    let (mut bytes, mut pending, mut count) = (packed.iter(), 0, 0);
    (0..(8 * packed.len()).div_ceil(bits)).map(move |_| {
        while count < bits {
            pending |= bytes.next().map_or(0, |byte| u64::from(*byte)) << count;
            count += 8;
        }
        let code = pending & ((1 << bits) - 1);
        (pending, count) = (pending >> bits, count - bits);
        code
    })
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

    #[test]
    fn codes_come_back_before_what_fills_the_last_byte() {
        for bits in [1, 3, 4, 8, 13, 57] {
            let codes: Vec<u64> = (0..20).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)).collect();
            let found: Vec<u64> = unpack_bits(&pack_bits(codes.iter().copied(), bits), bits).collect();
            assert_eq!(found[..20], codes, "{bits} bits");
            assert!(found[20..].iter().all(|code| *code == 0));
        }
    }
}
