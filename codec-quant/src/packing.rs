//! Codes of 2 to 8 bits as one little-endian bit stream: code `i` occupies bits `[i·b, (i+1)·b)`,
//! lowest bit first. For 4 bits this means the low nibble first, as in ONNX `MatMulNBits`.

use simd::{LANES, Simd, kernel, load, store};

/// Space for sixteen packed codes of up to 8 bits.
pub(crate) type Packed = [u8; LANES];

/// Mask of the lowest `BITS` bits of each byte.
const fn mask<const BITS: usize>() -> u64 {
    0x0101_0101_0101_0101 * ((1 << BITS) - 1)
}

/// Packs sixteen codes below `2^BITS` into the first `2·BITS` bytes.
#[inline(always)]
pub(crate) fn pack16<const BITS: usize, S: Simd>(simd: S, codes: &[u8; LANES]) -> Packed {
    let mut packed = [0; LANES];
    if BITS == 8 {
        packed = *codes;
    } else if BITS == 4 {
        packed[..LANES / 2].copy_from_slice(&simd.pack_nibbles::<false>(codes));
    } else {
        for (half, eight) in codes.as_chunks::<8>().0.iter().enumerate() {
            let word = simd.gather_bits(u64::from_le_bytes(*eight), mask::<BITS>());
            packed[half * BITS..][..BITS].copy_from_slice(&word.to_le_bytes()[..BITS]);
        }
    }
    packed
}

/// The inverse of [`pack16`]; bytes beyond the end of `packed` count as zeros.
#[inline(always)]
pub(crate) fn unpack16<const BITS: usize, S: Simd>(simd: S, packed: &[u8]) -> [u8; LANES] {
    let mut filled = [0; LANES];
    let packed = if packed.len() < 2 * BITS {
        filled[..packed.len()].copy_from_slice(packed);
        &filled
    } else {
        packed
    };
    let mut codes = [0; LANES];
    if BITS == 8 {
        codes.copy_from_slice(&packed[..LANES]);
    } else if BITS == 4 {
        for (pair, byte) in codes.as_chunks_mut::<2>().0.iter_mut().zip(packed) {
            *pair = [byte & 15, byte >> 4];
        }
    } else {
        for (half, eight) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut word = [0; 8];
            word[..BITS].copy_from_slice(&packed[half * BITS..][..BITS]);
            *eight = simd.scatter_bits(u64::from_le_bytes(word), mask::<BITS>()).to_le_bytes();
        }
    }
    codes
}

/// Packed size in bytes of `codes` codes of `bits` bits.
pub(crate) fn packed_len(codes: usize, bits: usize) -> usize {
    (codes * bits).div_ceil(8)
}

/// Calls a function with the number of bits as its first generic parameter.
macro_rules! with_bits {
    ($bits:expr, $function:ident :: <_>($($argument:expr),* $(,)?)) => {
        match $bits {
            2 => $function::<2, _>($($argument),*),
            3 => $function::<3, _>($($argument),*),
            4 => $function::<4, _>($($argument),*),
            5 => $function::<5, _>($($argument),*),
            6 => $function::<6, _>($($argument),*),
            7 => $function::<7, _>($($argument),*),
            _ => $function::<8, _>($($argument),*),
        }
    };
}
pub(crate) use with_bits;

kernel! {
    /// Packs any number of codes; zeros pad the last byte.
    pub(crate) fn pack_all<'a>(simd, bits: usize, codes: &'a [u8]) -> Vec<u8> {
        let mut packed = vec![0; packed_len(codes.len(), bits)];
        for (codes, packed) in codes.chunks(LANES).zip(packed.chunks_mut(2 * bits)) {
            store(with_bits!(bits, pack16::<_>(simd, &load(codes))), packed);
        }
        packed
    }
}

kernel! {
    /// Unpacks the first `len` codes.
    pub(crate) fn unpack_all<'a>(simd, bits: usize, packed: &'a [u8], len: usize) -> Vec<u8> {
        let mut codes = vec![0; len];
        for (codes, packed) in codes.chunks_mut(LANES).zip(packed.chunks(2 * bits)) {
            store(with_bits!(bits, unpack16::<_>(simd, packed)), codes);
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_a_little_endian_bit_stream_at_every_level() {
        for level in simd::Level::available() {
            for bits in 2..=8usize {
                for n in [0, 1, 2, 7, 8, 9, 16, 61, 256] {
                    let codes: Vec<u8> = (0..n).map(|i| ((i * 37 + 11) % (1 << bits)) as u8).collect();
                    let bytes = simd::with_level(level, || pack_all(bits, &codes));
                    assert_eq!(bytes.len(), packed_len(n, bits));
                    for (i, code) in codes.iter().enumerate() {
                        let bit = |b| bytes[(i * bits + b) / 8] >> ((i * bits + b) % 8) & 1;
                        let stored = (0..bits).fold(0, |c, b| c | bit(b) << b);
                        assert_eq!(stored, *code, "{level}, {bits} bits, code {i} of {n}");
                    }
                    assert_eq!(
                        simd::with_level(level, || unpack_all(bits, &bytes, n)),
                        codes,
                        "{level}, {bits} bits, {n} codes"
                    );
                }
            }
        }
    }
}
