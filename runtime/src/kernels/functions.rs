//! Activations and their product.
//!
//! `eˣ` is `2ⁿ·eʳ` with `|r| ≤ ln 2 / 2` and a polynomial for `eʳ` (S. Moshier, Cephes,
//! `expf.c`): a relative error below 2e-7. It needs additions and multiplications only, so every
//! level gives the same bits.

use simd::{LANES, kernel, lanes, load, store};

use crate::config::Activation;

/// `f(x)` for each value.
pub fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Silu => silu(values),
        Activation::GeluTanh => gelu_tanh(values),
        Activation::Relu => values.iter_mut().for_each(|v| *v = v.max(0.0)),
        Activation::Gelu => {
            for v in values {
                *v *= 0.5 * (1.0 + libm::erff(*v * std::f32::consts::FRAC_1_SQRT_2));
            }
        }
    }
}

/// `2²³·1.5`: adding it rounds a small number to an integer, which the low bits then hold.
const ROUND: f32 = 12_582_912.0;

/// `eˣ` in each lane; 0 below -87.3, and at least 2e38 above 88.
#[inline(always)]
pub(crate) fn exp(x: &[f32; LANES]) -> [f32; LANES] {
    // The parts of ln 2, of which the first has few bits, so that its product with n is exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    lanes!(i => {
        let x = if x[i] > 88.0 { 88.0 } else { x[i] };
        let small = x < -87.3;
        let x = if small { -87.3 } else { x };
        let sum = x * std::f32::consts::LOG2_E + ROUND;
        let n = sum - ROUND;
        let r = x - n * LN2[0] - n * LN2[1];
        let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let p = p * (r * r) + r + 1.0;
        let power = f32::from_bits((sum.to_bits().wrapping_sub(ROUND.to_bits()) << 23).wrapping_add(127 << 23));
        if small { 0.0 } else { p * power }
    })
}

kernel! {
    /// `x / (1 + e⁻ˣ)`.
    fn silu<'a>(_simd, values: &'a mut [f32]) {
        for block in values.chunks_mut(LANES) {
            let x = load(block);
            let e = exp(&lanes!(i => -x[i]));
            store(lanes!(i => x[i] / (1.0 + e[i])), block);
        }
    }
}

kernel! {
    /// `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, with `tanh u = 1 − 2 / (e²ᵘ + 1)`.
    fn gelu_tanh<'a>(_simd, values: &'a mut [f32]) {
        const SLOPE: f32 = 2.0 * 0.797_884_6;
        for block in values.chunks_mut(LANES) {
            let x = load(block);
            let e = exp(&lanes!(i => SLOPE * (x[i] + 0.044_715 * (x[i] * x[i] * x[i]))));
            store(lanes!(i => 0.5 * x[i] * (2.0 - 2.0 / (e[i] + 1.0))), block);
        }
    }
}

kernel! {
    /// `a[i] *= b[i]`.
    pub(crate) fn multiply<'a>(_simd, a: &'a mut [f32], b: &'a [f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a *= b;
        }
    }
}

#[cfg(test)]
mod tests {
    use simd::{Level, with_level};

    use super::*;

    kernel! {
        fn exponential<'a>(_simd, values: &'a mut [f32]) {
            for block in values.chunks_mut(LANES) {
                store(exp(&load(block)), block);
            }
        }
    }

    /// A function, the exact one, and an error that is allowed beside the relative one.
    type Case = (fn(&mut [f32]), fn(f64) -> f64, f64);

    #[test]
    fn functions_are_near_the_exact_ones_at_every_level() {
        let x: Vec<f32> =
            (-8800..8800).filter(|i| *i != -8730).map(|i| i as f32 / 100.0).chain([-1e30, 1e30]).collect();
        let run = |level, f: fn(&mut [f32])| {
            let mut y = x.clone();
            with_level(level, || f(&mut y));
            y
        };
        let cases: [Case; 4] = [
            (exponential, |x| if x < -87.3 { 0.0 } else { libm::exp(x.min(88.0)) }, 0.0),
            (silu, |x| x / (1.0 + libm::exp(-x)), 1e-8),
            (gelu_tanh, |x| x / 2.0 * (1.0 + libm::tanh(0.797_884_560_8 * (x + 0.044_715 * x * x * x))), 1e-6),
            (|values| activate(Activation::Gelu, values), |x| x / 2.0 * libm::erfc(-x / 2f64.sqrt()), 1e-6),
        ];
        for (number, (f, exact, slack)) in cases.into_iter().enumerate() {
            let scalar = run(Level::Scalar, f);
            for (x, y) in x.iter().zip(&scalar) {
                let wanted = exact(f64::from(*x));
                let error = (f64::from(*y) - wanted).abs();
                assert!(error <= 3e-7 * wanted.abs() + slack, "function {number} of {x}: {y}, not {wanted}");
            }
            for level in Level::available() {
                assert!(run(level, f).iter().zip(&scalar).all(|(a, b)| a.to_bits() == b.to_bits()), "{level}");
            }
        }
    }
}
