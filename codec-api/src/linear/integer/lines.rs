//! The layout of codes: sixteen outputs side by side.
//!
//! A tile has the codes of sixteen outputs, in lines of 64 bytes. Each output has a lane of 32 bits
//! in a line. The kernels multiply two codes at a time, one from the low and one from the high half
//! of a lane, and shift the lane to get at the next two. So code `i` of a lane of `b` bits is at
//! bit `b·⌊i/2⌋ + 16·(i mod 2)`.
//!
//! Codes of 6 bits take three lines for sixteen inputs: two with the low four bits, one with the
//! high two bits.

use bytemuck::{Pod, Zeroable};
use simd::LANES;

/// Inputs are padded to a multiple of it.
pub(super) const ALIGNED: usize = 16;

/// A lane for each of sixteen outputs: a cache line.
#[derive(Clone, Copy, Debug, Zeroable, Pod)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; LANES]);

/// Lines of a tile for so many inputs.
pub(super) fn lines_of(bits: usize, inputs: usize) -> usize {
    inputs.next_multiple_of(ALIGNED) * bits / 32
}

/// Line and bit of the code of an input.
#[inline(always)]
fn place(bits: usize, input: usize) -> (usize, usize) {
    let codes = 32 / bits;
    let code = input % codes;
    (input / codes, bits * (code / 2) + 16 * (code % 2))
}

/// As [`place`], for the low four bits and the high two bits of codes of six bits.
#[inline(always)]
fn places_of_six(input: usize) -> [(usize, usize); 2] {
    let ((low_line, low), (high_line, high)) = (place(4, input), place(2, input));
    [(low_line + high_line, low), (3 * high_line + 2, high)]
}

/// Adds the code of an input to a lane that has zeros there.
#[inline(always)]
pub(super) fn set(bits: usize, tile: &mut [Line], lane: usize, input: usize, code: u8) {
    if bits == 6 {
        let [low, high] = places_of_six(input);
        tile[low.0].0[lane] |= u32::from(code & 15) << low.1;
        tile[high.0].0[lane] |= u32::from(code >> 4) << high.1;
    } else {
        let (line, bit) = place(bits, input);
        tile[line].0[lane] |= u32::from(code) << bit;
    }
}

/// The code of an input in a lane.
#[inline(always)]
pub(super) fn get(bits: usize, tile: &[Line], lane: usize, input: usize) -> u8 {
    if bits == 6 {
        let [low, high] = places_of_six(input);
        return (tile[low.0].0[lane] >> low.1 & 15 | (tile[high.0].0[lane] >> high.1 & 3) << 4) as u8;
    }
    let (line, bit) = place(bits, input);
    (tile[line].0[lane] >> bit) as u8 & (255 >> (8 - bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_bits() {
        for bits in [2, 4, 6, 8] {
            for inputs in [1, 15, 16, 17, 100] {
                let mut tile = vec![Line([0; LANES]); lines_of(bits, inputs)];
                let code = |lane: usize, input: usize| ((lane * 31 + input * 7) % (1 << bits)) as u8;
                for lane in 0..LANES {
                    (0..inputs).for_each(|input| set(bits, &mut tile, lane, input, code(lane, input)));
                }
                for lane in 0..LANES {
                    let found = (0..inputs).map(|input| get(bits, &tile, lane, input));
                    assert!(found.eq((0..inputs).map(|input| code(lane, input))), "{bits} bits, {inputs} inputs");
                }
            }
        }
    }
}
