//! Where bytes go in [`Simd::coded_bf16`](crate::Simd::coded_bf16) with AVX-512.
//!
//! Interleaving the bytes of two registers gives lanes of two bytes from each. The four bytes of a
//! lane are to be those of two numbers that are [`LANES`] apart, so that a lane is easily split
//! into lane `i` of one vector and lane `i` of the next.

use crate::LANES;

/// The number that byte `at` is to belong to.
const fn number(at: usize) -> usize {
    let (quarter, half, pair, second) = (at / 16, at / 8 % 2, at / 2 % 4, at % 2);
    2 * LANES * half + LANES * second + 4 * quarter + pair
}

/// A table with the value of `$value` for each place `$at`.
macro_rules! table {
    ($at:ident => $value:expr) => {{
        let mut table = [0; 4 * LANES];
        let mut $at = 0;
        while $at < table.len() {
            table[$at] = $value as u8;
            $at += 1;
        }
        table
    }};
}

/// The numbers of all bytes.
pub(super) const NUMBERS: [u8; 4 * LANES] = table!(at => number(at));

/// The bytes with the codes of these numbers, two codes each: in every eight bytes, all that its
/// numbers need. Bytes 0 and 1 are for the first numbers of the pairs, 2 and 3 for the second ones.
pub(super) const CODES: [u8; 4 * LANES] = table!(at => number(at / 8 * 8 + at % 2 * 4 + at % 4 / 2) / 2);

/// From which bit of its eight bytes on each code is found.
pub(super) const SHIFTS: [u8; 4 * LANES] = table!(at => 8 * (2 * (at % 2) + at / 4 % 2) + 4 * (at / 2 % 2));
