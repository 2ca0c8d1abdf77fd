//! The computed codes: a few instructions give the value of a state, without a table.

use serde::{Deserialize, Serialize};
use simd::{LANES, Simd, kernel, lanes};

/// The function from a state to a number that looks normally distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// A linear congruential generator, then the sum of the four bytes of its result.
    #[serde(rename = "1mad")]
    OneMad,
    /// A linear congruential generator, then the sum of two F16 numbers made from the bits of its
    /// result.
    #[serde(rename = "3inst")]
    ThreeInst,
}

impl Code {
    /// Approximate standard deviation of the values of all states.
    pub(super) fn deviation(self) -> f64 {
        match self {
            Self::OneMad => 147.8,
            Self::ThreeInst => 1.24,
        }
    }

    /// Values of sixteen states.
    pub(super) fn values(self, states: &[u32; LANES]) -> [f32; LANES] {
        values(self, states)
    }
}

kernel! {
    fn values<'a>(simd, code: Code, states: &'a [u32; LANES]) -> [f32; LANES] {
        match code {
            Code::OneMad => OneMad::values(simd, states),
            Code::ThreeInst => ThreeInst::values(simd, states),
        }
    }
}

/// A [`Code`] as a type, known when a kernel is compiled. It adds with methods of [`Simd`], which
/// keeps the compiler from vectorising across blocks of lanes instead of within them.
pub(super) trait Computed {
    fn values<S: Simd>(simd: S, states: &[u32; LANES]) -> [f32; LANES];
}

pub(super) struct OneMad;

impl Computed for OneMad {
    #[inline(always)]
    fn values<S: Simd>(simd: S, states: &[u32; LANES]) -> [f32; LANES] {
        let numbers: [u32; LANES] = lanes!(i => states[i].wrapping_mul(34_038_481).wrapping_add(76_625_530));
        let sums = simd.sum_bytes(&numbers);
        lanes!(i => (sums[i] as i32 - 510) as f32)
    }
}

pub(super) struct ThreeInst;

impl Computed for ThreeInst {
    #[inline(always)]
    fn values<S: Simd>(simd: S, states: &[u32; LANES]) -> [f32; LANES] {
        let numbers: [u32; LANES] = lanes!(i => states[i].wrapping_mul(89_226_354).wrapping_add(64_248_484));
        simd.add(&lanes!(i => widened(numbers[i])), &lanes!(i => widened(numbers[i] << 16)))
    }
}

/// The F16 number that the upper half of `bits` makes. Its exponent is from −3 to 0, so that sign,
/// exponent and mantissa only move to their places in an f32.
#[inline(always)]
fn widened(bits: u32) -> f32 {
    f32::from_bits(((bits as i32 >> 3) as u32 & 0x81ff_e000) ^ 0x3f6c_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_three_instructions_are_sums_of_f16() {
        for first in (0..1 << 16).step_by(LANES) {
            let states: [u32; LANES] = lanes!(i => first + i as u32);
            let wanted = states.map(|state| {
                let bits = (state.wrapping_mul(89_226_354).wrapping_add(64_248_484) & 0x8fff_8fff) ^ 0x3b60_3b60;
                let mut halves = [0.0; 2];
                simd::f16_to_f32(&[(bits >> 16) as u16, bits as u16], &mut halves);
                halves[0] + halves[1]
            });
            assert_eq!(Code::ThreeInst.values(&states), wanted);
        }
    }
}
