//! Differences of floats as symbols and raw bits.

use codec_api::Dtype;
use entropy::plane::MOST_CONTEXTS;

/// How a float is made of bits: sign, exponent, mantissa, from the highest to the lowest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Bytes.
    pub width: usize,
    /// Bits of the mantissa.
    mantissa: u32,
}

impl Layout {
    /// `None` for what is no such float of whole bytes.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        let (width, mantissa) = match dtype {
            Dtype::F64 => (8, 52),
            Dtype::F32 => (4, 23),
            Dtype::BF16 => (2, 7),
            Dtype::F16 => (2, 10),
            Dtype::F8_E4M3 => (1, 3),
            Dtype::F8_E5M2 => (1, 2),
            _ => return None,
        };
        Some(Self { width, mantissa })
    }

    /// The exponent fields of floats, as contexts: how far each is below the largest of a finite one, at most 63. What is not
    /// finite has context 0.
    pub(super) fn contexts(self, floats: &[u8]) -> Vec<u8> {
        match self.width {
            1 => self.contexts_of::<1>(floats),
            2 => self.contexts_of::<2>(floats),
            4 => self.contexts_of::<4>(floats),
            _ => self.contexts_of::<8>(floats),
        }
    }

    fn contexts_of<const WIDTH: usize>(self, floats: &[u8]) -> Vec<u8> {
        let floats = floats.as_chunks::<WIDTH>().0;
        let infinite = (1u32 << (8 * WIDTH as u32 - 1 - self.mantissa)) - 1;
        let exponent = |bytes: &[u8; WIDTH]| (word(*bytes) >> self.mantissa) as u32 & infinite;
        let finite = |e: u32| if e == infinite { 0 } else { e };
        let largest = floats.iter().map(|bytes| finite(exponent(bytes))).fold(0, u32::max);
        let context = |bytes| largest.saturating_sub(exponent(bytes)).min(MOST_CONTEXTS as u32 - 1) as u8;
        floats.iter().map(context).collect()
    }
}

/// A little-endian integer.
#[inline(always)]
fn word<const WIDTH: usize>(bytes: [u8; WIDTH]) -> u64 {
    let mut wide = [0; 8];
    wide[..WIDTH].copy_from_slice(&bytes);
    u64::from_le_bytes(wide)
}

/// Floats as integers of the same order, and back; `sign` is the sign's bit.
#[inline(always)]
fn ordered(float: u64, sign: u64) -> u64 {
    if float & sign == 0 { float | sign } else { !float & (2 * (sign - 1) + 1) }
}

#[inline(always)]
fn unordered(integer: u64, sign: u64) -> u64 {
    if integer & sign == 0 { !integer & (2 * (sign - 1) + 1) } else { integer ^ sign }
}

/// The symbols of magnitudes below 2ᵂ⁻¹ and of that one, for W bits: those below 2ᵀ⁺¹ are their own; above, each power of two has 2ᵀ symbols,
/// one for each value of the T bits behind the first. The other bits are raw, and so is the sign unless the magnitude is 0.
#[derive(Clone, Copy, Debug)]
struct Classes {
    /// T.
    top: u32,
}

impl Classes {
    /// With three bits, or with two where symbols of three would not fit into a byte.
    const fn of(width: usize) -> Self {
        Self { top: if width == 8 { 2 } else { 3 } }
    }

    /// The symbol of a magnitude, and the number of its raw bits without the sign.
    #[inline(always)]
    fn split(self, magnitude: u64) -> (u8, u32) {
        let raw = (magnitude | 1).ilog2().saturating_sub(self.top);
        // The first bit and those behind it are 2ᵀ and more.
        ((u64::from(raw << self.top) + (magnitude >> raw)) as u8, raw)
    }

    /// The least magnitude of each symbol, and its raw bits with the sign.
    fn table(self, width: usize) -> ([u64; 256], [u8; 256]) {
        let (mut least, mut bits) = ([0; 256], [0; 256]);
        for symbol in 0..self.symbols(width) {
            let raw = (symbol >> self.top).saturating_sub(1);
            least[symbol as usize] = u64::from(symbol - (raw << self.top)) << raw;
            bits[symbol as usize] = raw as u8 + u8::from(symbol > 0);
        }
        (least, bits)
    }

    /// Symbols that there are.
    fn symbols(self, width: usize) -> u32 {
        let most = 1u64 << (8 * width - 1);
        u32::from(self.split(most).0) + 1
    }
}

/// The difference of two tensors of floats.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// A symbol for each float, 0 where it is the base's.
    pub symbols: Vec<u8>,
    /// Raw bits of those that are not, the first at the lowest bit of the first byte; the last byte is filled up with zeros.
    pub raw: Vec<u8>,
}

impl Difference {
    /// Of floats from those of the base.
    pub(super) fn of(layout: Layout, floats: &[u8], base: &[u8]) -> Self {
        match layout.width {
            1 => Self::of_width::<1>(floats, base),
            2 => Self::of_width::<2>(floats, base),
            4 => Self::of_width::<4>(floats, base),
            _ => Self::of_width::<8>(floats, base),
        }
    }

    fn of_width<const WIDTH: usize>(floats: &[u8], base: &[u8]) -> Self {
        let (floats, base) = (floats.as_chunks::<WIDTH>().0, base.as_chunks::<WIDTH>().0);
        let (sign, classes, mut bits) = (1u64 << (8 * WIDTH - 1), Classes::of(WIDTH), Writer::default());
        let symbol = |(float, base): (&[u8; WIDTH], &[u8; WIDTH])| {
            let difference = ordered(word(*float), sign).wrapping_sub(ordered(word(*base), sign));
            // Modulo 2ᵂ, from −2ᵂ⁻¹ up.
            let difference = ((difference << (64 - 8 * WIDTH)) as i64) >> (64 - 8 * WIDTH);
            let magnitude = difference.unsigned_abs();
            let (symbol, raw) = classes.split(magnitude);
            if symbol > 0 {
                let low = magnitude & ((1 << raw) - 1);
                bits.put(low << 1 | u64::from(difference < 0), raw + 1);
            }
            symbol
        };
        let symbols = floats.iter().zip(base).map(symbol).collect();
        Self { symbols, raw: bits.finish() }
    }
}

/// Adds a difference to the floats of the base in `out`; says what is wrong with it if it is not one.
pub(super) fn add(layout: Layout, symbols: &[u8], raw: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
    match layout.width {
        1 => add_width::<1>(symbols, raw, out),
        2 => add_width::<2>(symbols, raw, out),
        4 => add_width::<4>(symbols, raw, out),
        _ => add_width::<8>(symbols, raw, out),
    }
}

fn add_width<const WIDTH: usize>(symbols: &[u8], raw: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
    let (sign, classes) = (1u64 << (8 * WIDTH - 1), Classes::of(WIDTH));
    let ((least, bits), mut reader) = (classes.table(WIDTH), Reader { bytes: raw, place: 0 });
    for (float, symbol) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(symbols) {
        let symbol = usize::from(*symbol);
        let raw = reader.take::<WIDTH>(bits[symbol]);
        let magnitude = least[symbol] + (raw >> 1);
        let difference = if raw & 1 == 1 { magnitude.wrapping_neg() } else { magnitude };
        let integer = ordered(word(*float), sign).wrapping_add(difference) & (2 * (sign - 1) + 1);
        float.copy_from_slice(&unordered(integer, sign).to_le_bytes()[..WIDTH]);
    }
    if symbols.iter().any(|symbol| u32::from(*symbol) >= classes.symbols(WIDTH)) {
        return Err("there is no such symbol");
    }
    reader.finish()
}

/// Bits, from the lowest of the first byte.
#[derive(Debug, Default)]
struct Writer {
    bytes: Vec<u8>,
    /// Bits that are no whole byte yet, and how many.
    rest: u128,
    count: u32,
}

impl Writer {
    /// Appends the low `count` bits of `bits`, of which the others are 0.
    #[inline(always)]
    fn put(&mut self, bits: u64, count: u32) {
        self.rest |= u128::from(bits) << self.count;
        self.count += count;
        if self.count >= 64 {
            self.bytes.extend((self.rest as u64).to_le_bytes());
            self.rest >>= 64;
            self.count -= 64;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let bytes = self.rest.to_le_bytes();
        self.bytes.extend(&bytes[..self.count.div_ceil(8) as usize]);
        self.bytes
    }
}

/// Reads what [`Writer`] wrote. Behind the end there are zeros, and [`Self::finish`] finds out.
struct Reader<'a> {
    bytes: &'a [u8],
    /// In bits.
    place: usize,
}

impl Reader<'_> {
    /// The next `count` bits: at most 56, or 64 if the floats have eight bytes.
    #[inline(always)]
    fn take<const WIDTH: usize>(&mut self, count: u8) -> u64 {
        let rest = self.bytes.get(self.place / 8..).unwrap_or_default();
        let shift = self.place % 8;
        self.place += usize::from(count);
        if WIDTH == 8 {
            return (u128::from_le_bytes(first(rest)) >> shift) as u64 & low_bits(count);
        }
        (u64::from_le_bytes(first(rest)) >> shift) & low_bits(count)
    }

    /// Whether all bits were read, but for less than a byte of zeros.
    fn finish(&self) -> Result<(), &'static str> {
        if self.place.div_ceil(8) != self.bytes.len() {
            return Err("there are not as many bits as its symbols ask for");
        }
        match self.bytes.last() {
            Some(last) if !self.place.is_multiple_of(8) && last >> (self.place % 8) != 0 => {
                Err("a bit behind the last one is set")
            }
            _ => Ok(()),
        }
    }
}

#[inline(always)]
fn low_bits(count: u8) -> u64 {
    // `count` is below 64: the largest magnitude has two bits in its symbol.
    (1 << count) - 1
}

/// The first bytes, and zeros if there are fewer.
#[inline(always)]
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; N];
        padded[..bytes.len()].copy_from_slice(bytes);
        padded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_magnitude_has_a_symbol_and_comes_back() {
        for width in [1, 2, 4, 8] {
            let (classes, most) = (Classes::of(width), 1u64 << (8 * width - 1));
            let (least, bits) = classes.table(width);
            let powers =
                (0..8 * width as u32).flat_map(|k| [(1u64 << k) - 1, 1 << k, (1 << k) + 1, (1 << k) + (1 << k) / 3]);
            for magnitude in (0..2000).chain(powers).filter(|m| *m <= most) {
                let (symbol, raw) = classes.split(magnitude);
                let symbol = usize::from(symbol);
                assert_eq!(least[symbol] + (magnitude & ((1 << raw) - 1)), magnitude, "{width} bytes");
                assert_eq!(u32::from(bits[symbol]), raw + u32::from(magnitude > 0), "{magnitude} of {width} bytes");
            }
            assert!(classes.symbols(width) <= 256 && (0..256).all(|s| bits[s] < 64), "{width} bytes");
        }
    }

    #[test]
    fn bits_of_every_length_come_back() {
        let mut writer = Writer::default();
        let field = |i: u64, count: u32| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1) & ((1 << count) - 1);
        for i in 0..1000 {
            writer.put(field(i, (i % 63) as u32), (i % 63) as u32);
        }
        let bytes = writer.finish();
        let mut reader = Reader { bytes: &bytes, place: 0 };
        for i in 0..1000 {
            assert_eq!(reader.take::<8>((i % 63) as u8), field(i, (i % 63) as u32));
        }
        assert_eq!(reader.finish(), Ok(()));
        assert!(Reader { bytes: &bytes[1..], place: reader.place }.finish().is_err());
        let mut more = bytes.clone();
        if let Some(last) = more.last_mut() {
            *last |= 0x80;
        }
        assert!(Reader { bytes: &more, place: reader.place }.finish().is_err() || reader.place.is_multiple_of(8));
    }
}
