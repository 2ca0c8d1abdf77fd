//! Escapes: upper parts without a symbol, and weights too large for multiples of the step.

/// Meaning of an escape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Escape {
    /// An upper part.
    Upper(i32),
    /// The weight itself, and the lowest bit of its upper part.
    Weight(bool, f32),
}

/// Largest magnitude of an upper part.
const MOST: u64 = 1 << 24;

/// Bytes of a weight in the escapes.
pub(crate) const WEIGHT_BYTES: usize = 5;

/// Bits of an upper part of this magnitude, on either side of 0.
pub(crate) fn bits(magnitude: usize) -> f64 {
    let number = 2 * magnitude as u64 + 2;
    f64::from((u64::BITS - number.leading_zeros()).div_ceil(7) * 8)
}

/// Appends an escape: a number in bytes of seven bits, the lowest first; all bytes but the last
/// have the eighth bit set. 0 and 1 mean a weight, which follows as F32. `n + 2` means the upper
/// part `n/2` if `n` is even, otherwise `−(n + 1)/2`.
pub(crate) fn write(escape: Escape, out: &mut Vec<u8>) {
    let mut number = match escape {
        Escape::Upper(q) => u64::from((q << 1 ^ q >> 31) as u32) + 2,
        Escape::Weight(bit, _) => bit.into(),
    };
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    if let Escape::Weight(_, weight) = escape {
        out.extend(weight.to_le_bytes());
    }
}

/// Reads the output of [`write`] and moves `bytes` behind it; `None` for other bytes.
pub(crate) fn read(bytes: &mut &[u8]) -> Option<Escape> {
    let mut number = 0u64;
    for place in 0.. {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if number > 2 * MOST + 2 {
            return None;
        }
        if byte & 0x80 == 0 {
            break;
        }
        if place == 4 {
            return None;
        }
    }
    let Some(n) = number.checked_sub(2) else {
        let (weight, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        return Some(Escape::Weight(number == 1, f32::from_le_bytes(*weight)))
            .filter(|_| f32::from_le_bytes(*weight).is_finite());
    };
    let n = n as u32;
    Some(Escape::Upper((n >> 1) as i32 ^ -((n & 1) as i32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_come_back() {
        let largest = MOST as i32;
        let mut escapes: Vec<_> =
            [0, 1, -1, 62, -63, 63, 64, -64, 8000, -9000, largest, -largest].map(Escape::Upper).into();
        escapes.extend([Escape::Weight(false, 1e30), Escape::Weight(true, -0.5)]);
        let mut bytes = Vec::new();
        for escape in &escapes {
            write(*escape, &mut bytes);
        }
        let mut rest = bytes.as_slice();
        for escape in &escapes {
            assert_eq!(read(&mut rest), Some(*escape));
        }
        assert!(rest.is_empty());
        for wrong in [&[][..], &[0x80], &[0, 1, 2, 3], &[0xff; 9], &[0, 0, 0, 0xc0, 0x7f]] {
            assert_eq!(read(&mut &*wrong), None, "{wrong:?}");
        }
    }
}
