//! Differences of floats as symbols and raw bits.

use codec_api::Dtype;
use simd::kernel;

/// The bit layout of a float: sign, exponent, mantissa, from the highest to the lowest.
#[derive(Clone, Copy, Debug)]
pub(super) struct FloatFormat {
    /// Bytes of a float.
    pub width: usize,
    /// Bits of the mantissa.
    mantissa: u32,
}

impl FloatFormat {
    /// The layout of a dtype; `None` unless it is a float of whole bytes with this layout.
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

    /// The exponent fields of floats, as contexts; for F64 minus 896, clamped to 0…255.
    pub(super) fn contexts(self, floats: &[u8]) -> Vec<u8> {
        let field = (1u16 << (8 * self.width as u32 - 1 - self.mantissa)) - 1;
        let (mantissa, field) = (self.mantissa, field as u8);
        match self.width {
            1 => floats.iter().map(|float| float >> mantissa & field).collect(),
            2 => floats.as_chunks().0.iter().map(|b| (u16::from_le_bytes(*b) >> mantissa) as u8 & field).collect(),
            4 => floats.as_chunks().0.iter().map(|b| (u32::from_le_bytes(*b) >> mantissa) as u8 & field).collect(),
            _ => {
                let exponent = |b: &[u8; 8]| (u64::from_le_bytes(*b) >> mantissa) as u16 & 0x7ff;
                floats.as_chunks().0.iter().map(|b| exponent(b).saturating_sub(896).min(255) as u8).collect()
            }
        }
    }
}

/// Reads a little-endian integer.
#[inline(always)]
fn word<const WIDTH: usize>(bytes: [u8; WIDTH]) -> u64 {
    // One load of this width: a copy into eight zeros would be read before it is written.
    match *bytes.as_slice() {
        [a] => a.into(),
        [a, b] => u16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
        ref all => all.first_chunk().map_or(0, |all| u64::from_le_bytes(*all)),
    }
}

/// Maps floats of W bits to integers in the same order.
#[inline(always)]
fn ordered<const WIDTH: usize>(float: u64) -> u64 {
    let negative = float >> (8 * WIDTH - 1);
    (float ^ negative.wrapping_neg() & all::<WIDTH>()) ^ (negative ^ 1) << (8 * WIDTH - 1)
}

/// The inverse of [`ordered`].
#[inline(always)]
fn unordered<const WIDTH: usize>(integer: u64) -> u64 {
    let negative = integer >> (8 * WIDTH - 1) ^ 1;
    (integer ^ negative.wrapping_neg() & all::<WIDTH>()) ^ (negative ^ 1) << (8 * WIDTH - 1)
}

/// A mask of W bits.
const fn all<const WIDTH: usize>() -> u64 {
    u64::MAX >> (64 - 8 * WIDTH)
}

/// The symbols of magnitudes up to 2ᵂ⁻¹, for W bits. Magnitudes below 2ᵀ⁺¹ are their own
/// symbols. Above, each power of two has 2ᵀ symbols, one for each value of the T bits after the
/// leading one. The remaining bits are raw, and so is the sign unless the magnitude is 0.
#[derive(Clone, Copy, Debug)]
struct Classes {
    /// T, the number of coded bits after the leading one.
    top: u32,
}

impl Classes {
    /// T is 3, or 2 if symbols with 3 would not fit into a byte.
    const fn of(width: usize) -> Self {
        Self { top: if width == 8 { 2 } else { 3 } }
    }

    /// The symbol of a magnitude, and the number of its raw bits without the sign.
    #[inline(always)]
    fn split(self, magnitude: u64) -> (u8, u32) {
        let raw = (magnitude | 1).ilog2().saturating_sub(self.top);
        // The shifted magnitude lies between 2ᵀ and 2ᵀ⁺¹ − 1, if `raw` is not 0.
        ((u64::from(raw << self.top) + (magnitude >> raw)) as u8, raw)
    }

    fn table(self, width: usize) -> SymbolTable {
        std::array::from_fn(|symbol| {
            if symbol > usize::from(self.last(width)) {
                return (0, 0);
            }
            let raw = (symbol >> self.top).saturating_sub(1);
            (((symbol - (raw << self.top)) as u64) << raw, raw as u32 + u32::from(symbol > 0))
        })
    }

    /// The symbol of the largest magnitude.
    fn last(self, width: usize) -> u8 {
        self.split(1 << (8 * width - 1)).0
    }
}

/// For each symbol the smallest magnitude, and the number of raw bits with the sign.
type SymbolTable = [(u64, u32); 256];

/// The difference of two tensors of floats.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// One symbol for each float; 0 if it equals the base's.
    pub symbols: Vec<u8>,
    /// Raw bits of all other floats, the first at the lowest bit of the first byte; the last byte
    /// is padded with zeros.
    pub raw: Vec<u8>,
}

kernel! {
    /// Computes the difference of floats from those of the base.
    pub(super) fn difference<'a>(_simd, format: FloatFormat, floats: &'a [u8], base: &'a [u8]) -> Difference {
        match format.width {
            1 => Difference::of::<1>(floats, base),
            2 => Difference::of::<2>(floats, base),
            4 => Difference::of::<4>(floats, base),
            _ => Difference::of::<8>(floats, base),
        }
    }
}

impl Difference {
    #[inline(always)]
    fn of<const WIDTH: usize>(floats: &[u8], base: &[u8]) -> Self {
        let (floats, base) = (floats.as_chunks::<WIDTH>().0, base.as_chunks::<WIDTH>().0);
        // An element has at most as many raw bits as bits.
        let (classes, mut bits) = (Classes::of(WIDTH), BitWriter::with_room(8 * WIDTH * floats.len()));
        let mut symbols = vec![0; floats.len()];
        // A loop, not an iterator's method, so that it is compiled for the CPU's level.
        for (symbol, (float, base)) in symbols.iter_mut().zip(floats.iter().zip(base)) {
            let difference = ordered::<WIDTH>(word(*float)).wrapping_sub(ordered::<WIDTH>(word(*base)));
            // Modulo 2ᵂ, starting at −2ᵂ⁻¹.
            let difference = ((difference << (64 - 8 * WIDTH)) as i64) >> (64 - 8 * WIDTH);
            let magnitude = difference.unsigned_abs();
            let (class, raw) = classes.split(magnitude);
            let low = magnitude & ((1 << raw) - 1);
            // Nothing for a magnitude of 0.
            bits.put::<WIDTH>(low << 1 | u64::from(difference < 0), raw + u32::from(class > 0));
            *symbol = class;
        }
        Self { symbols, raw: bits.finish() }
    }
}

/// Adds a difference to the floats of a base, part by part.
pub(super) struct Sum<'a> {
    format: FloatFormat,
    classes: Classes,
    table: SymbolTable,
    raw: BitReader<'a>,
}

impl<'a> Sum<'a> {
    /// Starts at the first of these raw bits.
    pub(super) fn new(format: FloatFormat, raw: &'a [u8]) -> Self {
        let classes = Classes::of(format.width);
        Self { format, classes, table: classes.table(format.width), raw: BitReader { bytes: raw, place: 0 } }
    }

    /// Adds the differences of these symbols to `out`, which holds the base's floats.
    pub(super) fn add(&mut self, symbols: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
        if symbols.iter().fold(0, |most, symbol| *symbol.max(&most)) > self.classes.last(self.format.width) {
            return Err("there is no such symbol");
        }
        self.raw = add(self.format, &self.table, self.raw, symbols, out);
        Ok(())
    }

    /// Checks that no raw bits are left.
    pub(super) fn finish(self) -> Result<(), &'static str> {
        self.raw.finish()
    }
}

kernel! {
    fn add<'a, 'r>(_simd, format: FloatFormat, table: &'a SymbolTable, raw: BitReader<'r>, symbols: &'a [u8], out: &'a mut [u8]) -> BitReader<'r> {
        match format.width {
            1 => add_width::<1>(table, raw, symbols, out),
            2 => add_width::<2>(table, raw, symbols, out),
            4 => add_width::<4>(table, raw, symbols, out),
            _ => add_width::<8>(table, raw, symbols, out),
        }
    }
}

/// Differences read before any is added.
const BLOCK: usize = 64;

#[inline(always)]
fn add_width<'r, const WIDTH: usize>(
    table: &SymbolTable,
    mut raw: BitReader<'r>,
    symbols: &[u8],
    out: &mut [u8],
) -> BitReader<'r> {
    let mut differences = [0u64; BLOCK];
    for (floats, symbols) in out.as_chunks_mut::<WIDTH>().0.chunks_mut(BLOCK).zip(symbols.chunks(BLOCK)) {
        for (difference, symbol) in differences.iter_mut().zip(symbols) {
            let (least, bits) = table[usize::from(*symbol)];
            let raw = raw.take::<WIDTH>(bits);
            let negative = raw & 1;
            *difference = (least.wrapping_add(raw >> 1) ^ negative.wrapping_neg()).wrapping_add(negative);
        }
        for (float, difference) in floats.iter_mut().zip(&differences) {
            let integer = ordered::<WIDTH>(word(*float)).wrapping_add(*difference) & all::<WIDTH>();
            float.copy_from_slice(&unordered::<WIDTH>(integer).to_le_bytes()[..WIDTH]);
        }
    }
    raw
}

/// Writes bits, starting at the lowest of the first byte.
#[derive(Debug)]
struct BitWriter {
    /// Written up to `at`; what follows is overwritten or cut off.
    bytes: Vec<u8>,
    /// Number of bytes that are full.
    at: usize,
    /// Bits that do not fill a byte yet, and their number.
    rest: u64,
    count: u32,
}

impl BitWriter {
    /// A writer for at most this many bits.
    fn with_room(bits: usize) -> Self {
        Self { bytes: vec![0; bits / 8 + size_of::<u64>()], at: 0, rest: 0, count: 0 }
    }

    /// Appends the low `count` bits of `bits`: at most 56, or 63 if the floats have eight bytes.
    /// The other bits must be 0.
    #[inline(always)]
    fn put<const WIDTH: usize>(&mut self, bits: u64, count: u32) {
        if WIDTH == 8 {
            self.append(bits & u64::from(u32::MAX), count.min(32));
            self.append(bits >> 32, count.saturating_sub(32));
        } else {
            self.append(bits, count);
        }
    }

    /// Without branches: writes eight bytes, and keeps as many as are full.
    #[inline(always)]
    fn append(&mut self, bits: u64, count: u32) {
        self.rest |= bits << self.count;
        if let Some(window) = self.bytes[self.at..].first_chunk_mut() {
            *window = self.rest.to_le_bytes();
        }
        let count = self.count + count;
        self.at += count as usize / 8;
        self.rest >>= count / 8 * 8;
        self.count = count % 8;
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at + usize::from(self.count > 0));
        self.bytes.shrink_to_fit();
        self.bytes
    }
}

/// Reads the bits of a [`BitWriter`]. Bits beyond the end read as 0; [`Self::finish`] reports it.
#[derive(Clone, Copy)]
struct BitReader<'a> {
    bytes: &'a [u8],
    /// Position in bits.
    place: usize,
}

impl BitReader<'_> {
    /// The next `count` bits: at most 56, or 63 if the floats have eight bytes.
    #[inline(always)]
    fn take<const WIDTH: usize>(&mut self, count: u32) -> u64 {
        let (at, shift) = (self.place / 8, self.place % 8);
        self.place += count as usize;
        let bits = if WIDTH == 8 {
            (u128::from_le_bytes(self.window(at)) >> shift) as u64
        } else {
            u64::from_le_bytes(self.window(at)) >> shift
        };
        bits & ((1 << count) - 1)
    }

    #[inline(always)]
    fn window<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.get(at..at + N).and_then(|window| window.try_into().ok()).unwrap_or_else(|| self.last(at))
    }

    /// The bytes from `at` to the end, padded with zeros.
    #[cold]
    #[inline(never)]
    fn last<const N: usize>(&self, at: usize) -> [u8; N] {
        let (rest, mut padded) = (self.bytes.get(at..).unwrap_or_default(), [0; N]);
        padded[..rest.len()].copy_from_slice(rest);
        padded
    }

    /// Checks that all bits were read, except fewer than 8 zero bits of padding.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_magnitude_has_a_symbol_and_comes_back() {
        for width in [1, 2, 4, 8] {
            let (classes, most) = (Classes::of(width), 1u64 << (8 * width - 1));
            let table = classes.table(width);
            let powers =
                (0..8 * width as u32).flat_map(|k| [(1u64 << k) - 1, 1 << k, (1 << k) + 1, (1 << k) + (1 << k) / 3]);
            for magnitude in (0..2000).chain(powers).filter(|m| *m <= most) {
                let (symbol, raw) = classes.split(magnitude);
                let (least, bits) = table[usize::from(symbol)];
                assert_eq!(least + (magnitude & ((1 << raw) - 1)), magnitude, "{width} bytes");
                assert_eq!(bits, raw + u32::from(magnitude > 0), "{magnitude} of {width} bytes");
            }
            assert!(table.iter().all(|(_, bits)| *bits < 64), "{width} bytes");
        }
    }

    #[test]
    fn bits_of_every_length_come_back() {
        let mut writer = BitWriter::with_room(63 * 1000);
        let field = |i: u64, count: u32| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1) & ((1 << count) - 1);
        for i in 0..1000 {
            writer.put::<8>(field(i, (i % 63) as u32), (i % 63) as u32);
        }
        let bytes = writer.finish();
        let mut reader = BitReader { bytes: &bytes, place: 0 };
        for i in 0..1000 {
            assert_eq!(reader.take::<8>((i % 63) as u32), field(i, (i % 63) as u32));
        }
        assert_eq!(reader.finish(), Ok(()));
        assert!(BitReader { bytes: &bytes[1..], place: reader.place }.finish().is_err());
        let mut more = bytes.clone();
        if let Some(last) = more.last_mut() {
            *last |= 0x80;
        }
        assert!(BitReader { bytes: &more, place: reader.place }.finish().is_err() || reader.place.is_multiple_of(8));
    }
}
