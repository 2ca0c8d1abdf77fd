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

/// The numbers of all bytes.
pub(super) const fn numbers() -> [u8; 4 * LANES] {
    let mut numbers = [0; 4 * LANES];
    let mut at = 0;
    while at < numbers.len() {
        numbers[at] = number(at) as u8;
        at += 1;
    }
    numbers
}

/// The bytes with the codes of these numbers, two codes each: in every eight bytes, all that its
/// numbers need.
pub(super) const fn codes() -> [u8; 4 * LANES] {
    let mut codes = [0; 4 * LANES];
    let mut at = 0;
    while at < codes.len() {
        // Bytes 0 and 1 are for the first numbers of the pairs, 2 and 3 for the second ones.
        let (first, within) = (at / 8 * 8, at % 4);
        codes[at] = (number(first + within % 2 * 4 + within / 2) / 2) as u8;
        at += 1;
    }
    codes
}

/// From which bit of its eight bytes on each code is found.
pub(super) const fn shifts() -> [u8; 4 * LANES] {
    let mut shifts = [0; 4 * LANES];
    let mut at = 0;
    while at < shifts.len() {
        let (pair, second) = (at / 2 % 4, at % 2);
        shifts[at] = (8 * (2 * second + pair / 2) + 4 * (pair % 2)) as u8;
        at += 1;
    }
    shifts
}
