//! Operations that compilers do not vectorise by themselves; `scalar` and `x86` have their forms.

use crate::{LANES, Table, lanes};

/// All bits of an f32 except the sign.
pub(crate) const MAGNITUDE: u32 = 0x7fff_ffff;

/// Operations on [`LANES`] values at one level. A value of an implementing type exists only where
/// the CPU supports the level.
pub trait Simd: Copy {
    /// Number of blocks of [`LANES`] values of 32 bits that the registers hold.
    const VECTORS: usize;

    /// `table[codes[i] & 15]` for each lane.
    fn lookup16(self, table: &[f32; LANES], codes: &[u8; LANES]) -> [f32; LANES];

    /// Number of `thresholds` below each value. The first fifteen thresholds ascend; the sixteenth
    /// is not used.
    fn rank16(self, thresholds: &[f32; LANES], values: &[f32; LANES]) -> [u8; LANES];

    /// Converts codes to numbers.
    fn u8_to_f32(self, codes: &[u8; LANES]) -> [f32; LANES];

    /// The larger of `largest` (bits of magnitudes) and the bits of `|x|`, in each lane. As
    /// integers, bits of magnitudes have the order of the numbers; infinity and NaN are above all.
    fn max_magnitude(self, largest: &[u32; LANES], x: &[f32; LANES]) -> [u32; LANES];

    /// The largest lane; no lane may be NaN.
    fn reduce_max(self, lanes: &[f32; LANES]) -> f32;

    /// `a·b + c`, rounded once where the level fuses the two operations, otherwise twice. Levels
    /// differ in the last bit, so use it for bounds and estimates only, never for a payload or a
    /// decoded weight.
    fn multiply_add(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES];

    /// `a + b`.
    fn add(self, a: &[f32; LANES], b: &[f32; LANES]) -> [f32; LANES];

    /// `a − b·c`, rounded twice; the same bits at every level.
    fn subtract_product(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES];

    /// In each lane where `values` is below `least`: stores the value in `least`, and `index` in
    /// `indices`.
    fn keep_least(self, values: &[f32; LANES], index: u32, least: &mut [f32; LANES], indices: &mut [u32; LANES]);

    /// A bit for each lane in which `a ≥ b`; the bit is 0 if either one is NaN.
    fn at_least(self, a: &[f32; LANES], b: &[f32; LANES]) -> u16;

    /// Packs two codes below 16 into a byte. The first of each pair goes to the high nibble if
    /// `HIGH_FIRST`, otherwise to the low one.
    fn pack_nibbles<const HIGH_FIRST: bool>(self, codes: &[u8; LANES]) -> [u8; LANES / 2];

    /// Extracts the bits of `x` at the set positions of `mask`, and packs them at the low end.
    fn gather_bits(self, x: u64, mask: u64) -> u64;

    /// The inverse of [`Self::gather_bits`]: moves the low bits of `x` to the set positions of
    /// `mask`.
    fn scatter_bits(self, x: u64, mask: u64) -> u64;

    /// A bit for each lane in which `a < b`.
    fn below(self, a: &[u32; LANES], b: &[u32; LANES]) -> u16;

    /// `a / b`, rounded down, and the rest. Each `b` is 1 to 2¹², and each quotient below 2²⁰.
    fn divide(self, a: &[u32; LANES], b: &[u32; LANES]) -> [[u32; LANES]; 2];

    /// Moves the low half of each lane of at least `limit·2²⁰` to the end of `words`, in order, and
    /// shifts these lanes right by 16 bits. Each limit is at most 2¹². Returns the lanes and the
    /// number of words moved; the other words may change.
    fn drain(self, lanes: &[u32; LANES], limits: &[u32; LANES], words: &mut [[u8; 2]; LANES]) -> ([u32; LANES], usize);

    /// Shifts each lane below 2¹⁶ left by 16 bits and adds the next word. Returns the lanes and the
    /// number of words added.
    fn refill(self, lanes: &[u32; LANES], words: &[[u8; 2]; LANES]) -> ([u32; LANES], usize);

    /// The entries of a table at these indices, modulo its length.
    fn gather(self, table: Table<'_>, indices: &[u32; LANES]) -> [u32; LANES];

    /// Moves the first values to the lanes whose bits are set, in order; the other lanes are 0.
    fn expand(self, values: &[u32; LANES], mask: u16) -> [u32; LANES];

    /// A window into a little-endian bit stream for each lane. Window `i` begins at bit `i · BITS`
    /// (`BITS` is 1 to 4). A lane holds the 32 bits from the last multiple of 16 before its window
    /// on, shifted to begin with the window, so at least 17 bits are valid.
    fn windows<const BITS: usize>(self, bytes: &[u8; LANES]) -> [u32; LANES];

    /// The sum of the four bytes in each lane.
    fn sum_bytes(self, lanes: &[u32; LANES]) -> [u32; LANES];

    /// The lanes as 16-bit integers; none may be above `u16::MAX`.
    fn low_halves(self, lanes: &[u32; LANES]) -> [u16; LANES];

    /// `table[indices[i] & 63]` for each index.
    fn lookup64(self, table: &[u8; 64], indices: &[u8; 64]) -> [u8; 64];

    /// `a + b·c`, rounded twice; the same bits at every level.
    fn add_product(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES];

    /// Converts integers to f32: nearest, ties to even.
    fn i32_to_f32(self, values: &[i32; LANES]) -> [f32; LANES];

    /// Rounds `values·factor` to the nearest integers, ties to even; their magnitudes must be below
    /// 32768.
    fn round_products(self, values: &[f32; LANES], factor: f32) -> [i16; LANES];

    /// `lanes >> shift & mask` in each lane.
    fn bits(self, lanes: &[u32; LANES], shift: u32, mask: u32) -> [u32; LANES];

    /// Both 16-bit halves of each lane, `>> SHIFT`.
    fn high_bits<const SHIFT: u32>(self, lanes: &[u32; LANES]) -> [u32; LANES];

    /// `a + (b << SHIFT)` in each lane, which must not overflow.
    fn add_shifted<const SHIFT: u32>(self, a: &[u32; LANES], b: &[u32; LANES]) -> [u32; LANES];

    /// `sums + a₀·b₀ + a₁·b₁` in each lane, where `a₀` and `a₁` are the low and the high half of
    /// the lane of `a`, and `b₀` and `b₁` those of `b`, as signed integers. Sums wrap around.
    fn add_pairs(self, sums: &[i32; LANES], a: &[u32; LANES], b: u32) -> [i32; LANES];

    /// As [`Self::add_pairs`], with a pair of integers for each lane: `b[2·i]` and `b[2·i + 1]`.
    fn add_lane_pairs(self, sums: &[i32; LANES], a: &[u32; LANES], b: &[i16; 2 * LANES]) -> [i32; LANES];

    /// Bytes as pairs of 16-bit integers: byte `2·i` is the low half of lane `i`.
    fn widen_pairs(self, bytes: &[u8; 2 * LANES]) -> [u32; LANES];

    /// The upper 16 bits of the product of each half of the lanes with `factor`; unsigned.
    fn high_products(self, lanes: &[u32; LANES], factor: u16) -> [u32; LANES];

    /// Rounds finite values to BF16: nearest, ties to even, infinity beyond its range.
    #[inline(always)]
    fn f32_to_bf16(self, values: &[f32; LANES]) -> [u16; LANES] {
        let wide: [u32; LANES] = lanes!(i => values[i].to_bits());
        self.low_halves(&lanes!(i => wide[i].wrapping_add(0x7fff + (wide[i] >> 16 & 1)) >> 16))
    }

    /// Widens BF16 bits; exact.
    #[inline(always)]
    fn bf16_to_f32(self, bits: &[u16; LANES]) -> [f32; LANES] {
        lanes!(i => f32::from_bits(u32::from(bits[i]) << 16))
    }

    /// 64 numbers in BF16, whose bits are stored apart: a byte of `low` is the sign and the mantissa
    /// of a number, and a half of a byte of `codes`, the lower one first, says which of the `floats`
    /// has its exponent. The `floats` have neither sign nor mantissa.
    #[inline(always)]
    fn coded_bf16(self, floats: &[f32; LANES], codes: &[u8; 2 * LANES], low: &[u8; 4 * LANES]) -> [[f32; LANES]; 4] {
        let mut halves = [[0; 2]; 2 * LANES];
        for (halves, byte) in halves.iter_mut().zip(codes) {
            // A byte that is spread over a word needs fewer instructions than two bytes.
            let byte = u16::from(*byte);
            *halves = ((byte | byte << 4) & 0x0f0f).to_le_bytes();
        }
        let mut numbers = [[0.0; LANES]; 4];
        let parts = halves.as_flattened().as_chunks::<LANES>().0.iter().zip(low.as_chunks::<LANES>().0);
        for (numbers, (codes, low)) in numbers.iter_mut().zip(parts) {
            let exponents = self.lookup16(floats, codes);
            *numbers = lanes!(i => {
                let low = u32::from(low[i]);
                f32::from_bits(exponents[i].to_bits() | (low << 24 | low << 16) & 0x807f_0000)
            });
        }
        numbers
    }

    /// Rounds to F16: nearest, ties to even, infinity beyond its range.
    fn f32_to_f16(self, values: &[f32; LANES]) -> [u16; LANES];

    /// Widens F16 bits; exact for every number. A signalling NaN becomes the quiet NaN with the
    /// same payload.
    fn f16_to_f32(self, bits: &[u16; LANES]) -> [f32; LANES];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, kernel, with_level};

    kernel! {
        fn ranks<'a>(simd, thresholds: &'a [f32; LANES], values: &'a [f32; LANES]) -> [u8; LANES] {
            simd.rank16(thresholds, values)
        }
    }
    #[derive(Debug, PartialEq)]
    struct Found {
        lookup: [f32; LANES],
        numbers: [f32; LANES],
        magnitudes: [u32; LANES],
        largest: f32,
        at_least: u16,
        sums: [f32; LANES],
        differences: [f32; LANES],
        least: ([f32; LANES], [u32; LANES]),
        nibbles: [[u8; LANES / 2]; 2],
        gathered: u64,
        scattered: u64,
        below: u16,
        quotients: [[u32; LANES]; 2],
        drained: ([u32; LANES], usize, Vec<[u8; 2]>),
        refilled: ([u32; LANES], usize),
        entries: [u32; LANES],
        expanded: [u32; LANES],
        windows: [[u32; LANES]; 4],
        byte_sums: [u32; LANES],
        low_halves: [u16; LANES],
        bytes: Vec<u8>,
        coded: [[f32; LANES]; 4],
        pair_sums: [[i32; LANES]; 2],
        pairs: [u32; LANES],
        high: [u32; LANES],
        rounded: [i16; LANES],
        added: [f32; LANES],
        converted: [f32; LANES],
        bits: [u32; LANES],
        high_bits: [u32; LANES],
        shifted: [u32; LANES],
    }
    kernel! {
        fn others<'a>(simd, values: &'a [f32; LANES], codes: &'a [u8; LANES], x: u64, mask: u64) -> Found {
            let low: [u8; LANES] = lanes!(i => codes[i] & 15);
            let floats: [f32; LANES] = lanes!(i => f32::from(low[i]) * 0.37 - 2.0);
            let mut least = (floats, lanes!(i => i as u32));
            simd.keep_least(values, 77, &mut least.0, &mut least.1);
            // Divisors of every size, and quotients up to the limit.
            let divisors: [u32; LANES] = lanes!(i => (x as u32 >> (20 + i % 12)).max(1));
            let dividends: [u32; LANES] = lanes!(i => (mask as u32).wrapping_mul(i as u32 + 1));
            let table: [u32; 8] = std::array::from_fn(|i| (x >> i) as u32);
            Found {
                lookup: simd.lookup16(values, codes),
                numbers: simd.u8_to_f32(codes),
                magnitudes: simd.max_magnitude(&[x as u32; LANES], values),
                largest: simd.reduce_max(values),
                at_least: simd.at_least(values, &lanes!(i => f32::from(low[i]) - 5.0)),
                sums: simd.add(values, &floats),
                differences: simd.subtract_product(values, &floats, &floats),
                least,
                nibbles: [simd.pack_nibbles::<true>(&low), simd.pack_nibbles::<false>(&low)],
                gathered: simd.gather_bits(x, mask),
                scattered: simd.scatter_bits(x, mask),
                below: simd.below(&divisors, &dividends),
                quotients: simd.divide(&lanes!(i => (u64::from(dividends[i]) % (u64::from(divisors[i]) << 20)) as u32), &divisors),
                drained: {
                    let mut words = [[1; 2]; LANES];
                    let (lanes, count) = simd.drain(&dividends, &divisors, &mut words);
                    (lanes, count, words[LANES - count..].to_vec())
                },
                refilled: simd.refill(&lanes!(i => dividends[i] >> (x % 19)), &lanes!(i => [i as u8, (x >> i) as u8])),
                entries: simd.gather(Table::new(&table).expect("a power of two"), &dividends),
                expanded: simd.expand(&lanes!(i => (x >> i) as u32), mask as u16),
                windows: [
                    simd.windows::<1>(codes),
                    simd.windows::<2>(codes),
                    simd.windows::<3>(codes),
                    simd.windows::<4>(codes),
                ],
                byte_sums: simd.sum_bytes(&dividends),
                low_halves: simd.low_halves(&lanes!(i => dividends[i] >> 16)),
                bytes: simd.lookup64(&std::array::from_fn(|i| (i * 7) as u8), &std::array::from_fn(|i| codes[i % LANES] ^ i as u8)).to_vec(),
                coded: simd.coded_bf16(
                    &lanes!(i => f32::from_bits(u32::from((x >> (3 * i)) as u8 & 0x7f) << 23)),
                    &std::array::from_fn(|i| codes[i % LANES].wrapping_mul(i as u8 | 1)),
                    &std::array::from_fn(|i| (mask >> (i % 57)) as u8 & if i % 2 == 0 { 0xbf } else { 0xff }),
                ),
                bits: simd.bits(&dividends, (x % 32) as u32, mask as u32),
                high_bits: simd.high_bits::<5>(&dividends),
                shifted: simd.add_shifted::<3>(&lanes!(i => dividends[i] >> 4), &lanes!(i => dividends[i] >> 4)),
                added: simd.add_product(values, &floats, &floats),
                converted: simd.i32_to_f32(&lanes!(i => (x >> i) as i32)),
                rounded: simd.round_products(values, ((x % 2000) as f32 - 1000.0) / 2.0),
                pair_sums: {
                    let sums = lanes!(i => (x >> i) as i32);
                    [simd.add_pairs(&sums, &dividends, x as u32), simd.add_lane_pairs(&sums, &dividends, &std::array::from_fn(|i| (mask >> i) as i16))]
                },
                pairs: simd.widen_pairs(&std::array::from_fn(|i| codes[i % LANES] ^ i as u8)),
                high: simd.high_products(&dividends, x as u16),
            }
        }
    }

    kernel! {
        fn multiplied<'a>(simd, a: &'a [f32; LANES], b: &'a [f32; LANES], c: &'a [f32; LANES]) -> [f32; LANES] {
            simd.multiply_add(a, b, c)
        }
    }

    #[test]
    fn multiply_add_rounds_once_or_twice() {
        let a: [f32; LANES] = lanes!(i => 1.0 + i as f32 * 0.37);
        let b: [f32; LANES] = lanes!(i => 0.9 - i as f32 * 0.21);
        let c: [f32; LANES] = lanes!(i => i as f32 * 0.03 - 0.2);
        for level in Level::available() {
            let found = with_level(level, || multiplied(&a, &b, &c));
            for i in 0..LANES {
                let (once, twice) = (a[i].mul_add(b[i], c[i]), a[i] * b[i] + c[i]);
                assert!(found[i] == once || found[i] == twice, "{level}, lane {i}: {}", found[i]);
            }
        }
        let nan = [f32::NAN; LANES];
        assert!(Level::available().into_iter().all(|level| with_level(level, || at_least(&nan, &a)) == 0));
    }

    kernel! {
        fn at_least<'a>(simd, a: &'a [f32; LANES], b: &'a [f32; LANES]) -> u16 {
            simd.at_least(a, b)
        }
    }

    kernel! {
        fn divided<'a>(simd, a: &'a [u32; LANES], b: &'a [u32; LANES]) -> [[u32; LANES]; 2] {
            simd.divide(a, b)
        }
    }

    #[test]
    fn quotients_are_right_beside_every_multiple() {
        for b in 1..=1 << 12 {
            let last = (1 << 20) - 1;
            let quotients = [0, 1, 2, 3, 1000, 4095, (1 << 16) - 1, last / 3, 1 << 19, last / 7 * 6, last - 1, last];
            for q in quotients.into_iter().chain((0..20).map(|bit| (1 << bit) + b % (1 << bit))) {
                let a: [u32; LANES] = lanes!(i => q * b + [0, 1, b / 2, b - 1][i % 4].min(b - 1));
                for level in Level::available() {
                    let [quotients, rests] = with_level(level, || divided(&a, &[b; LANES]));
                    for i in 0..LANES {
                        assert_eq!((quotients[i], rests[i]), (a[i] / b, a[i] % b), "{level}: {} / {b}", a[i]);
                    }
                }
            }
        }
    }

    #[test]
    fn every_level_agrees_with_the_scalar_twin() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state ^ state >> 29
        };
        for _ in 0..500 {
            let mut thresholds = [0.0; LANES].map(|_: f32| (random() % 41) as f32 - 20.0);
            thresholds.sort_by(f32::total_cmp);
            // Values are often exactly on a threshold.
            let values = [0.0; LANES].map(|_: f32| (random() % 45) as f32 - 22.0);
            let codes = [0u8; LANES].map(|_| random() as u8);
            let (x, mask) = (random(), random() & random());
            let expected =
                with_level(Level::Scalar, || (ranks(&thresholds, &values), others(&values, &codes, x, mask)));
            for level in Level::available() {
                let found = with_level(level, || (ranks(&thresholds, &values), others(&values, &codes, x, mask)));
                assert_eq!(found, expected, "{level}");
            }
        }
    }
}
