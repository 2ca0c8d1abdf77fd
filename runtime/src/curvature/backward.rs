//! Gradients of norms and activations.

use rayon::prelude::*;

use crate::config::Activation;
use crate::decoder::Norm;

/// The norm of each vector.
pub(super) fn norm(norm: &Norm, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let share = 64 * norm.weight.len().max(1);
    x.par_chunks(share).zip(y.par_chunks_mut(share)).for_each(|(x, y)| norm.apply(x, y));
    y
}

/// Adds the gradients at the inputs `x` of a norm to `into`, for gradients `g` at its outputs.
///
/// With `y = x̂·w + b` and `x̂ = (x − μ)·s`, they are `s·(ĝ − mean(ĝ) − x̂·mean(ĝ·x̂))` for
/// `ĝ = g·w`; an RMS norm has no `μ`, and no mean of `ĝ`.
pub(super) fn norm_gradients(norm: &Norm, x: &[f32], g: &[f32], into: &mut [f32]) {
    let width = norm.weight.len().max(1);
    let share = 64 * width;
    let shares = into.par_chunks_mut(share).zip(x.par_chunks(share)).zip(g.par_chunks(share));
    shares.for_each(|((into, x), g)| {
        let vectors = into.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(g.chunks_exact(width));
        vectors.for_each(|((into, x), g)| vector_gradients(norm, x, g, into));
    });
}

fn vector_gradients(norm: &Norm, x: &[f32], g: &[f32], into: &mut [f32]) {
    let mean = |sum: f64| sum / x.len() as f64;
    let (centre, scale) = moments(norm, x);
    let terms = || {
        x.iter()
            .zip(g.iter().zip(&norm.weight))
            .map(|(x, (g, w))| ((f64::from(*x) - centre) * scale, f64::from(*g) * f64::from(*w)))
    };
    let along = mean(terms().map(|(x, g)| x * g).sum());
    let level = if norm.kind.centred { mean(terms().map(|(_, g)| g).sum()) } else { 0.0 };
    for (into, (x, g)) in into.iter_mut().zip(terms()) {
        *into += (scale * (g - level - x * along)) as f32;
    }
}

/// The gradients of a norm's weight and bias, summed over all vectors, for gradients `g` at its
/// outputs: `Σ g·x̂` and `Σ g`.
pub(super) fn vector_sums(norm: &Norm, x: &[f32], g: &[f32]) -> [Vec<f64>; 2] {
    let width = norm.weight.len().max(1);
    let mut sums = [vec![0.0; width], vec![0.0; width]];
    for (x, g) in x.chunks_exact(width).zip(g.chunks_exact(width)) {
        let (centre, scale) = moments(norm, x);
        for (at, (x, g)) in x.iter().zip(g).enumerate() {
            sums[0][at] += f64::from(*g) * (f64::from(*x) - centre) * scale;
            sums[1][at] += f64::from(*g);
        }
    }
    sums
}

/// The mean of a vector, if the norm is centred, and one over its deviation.
fn moments(norm: &Norm, x: &[f32]) -> (f64, f64) {
    let mean = |sum: f64| sum / x.len() as f64;
    let centre = if norm.kind.centred { mean(x.iter().map(|x| f64::from(*x)).sum()) } else { 0.0 };
    let variance = mean(x.iter().map(|x| (f64::from(*x) - centre).powi(2)).sum());
    (centre, 1.0 / (variance + f64::from(norm.kind.epsilon)).sqrt())
}

/// The derivative of an activation.
pub(super) fn slope(activation: Activation, x: f32) -> f32 {
    let x = f64::from(x);
    let slope = match activation {
        Activation::Relu => f64::from(x > 0.0),
        Activation::Silu => {
            let s = 1.0 / (1.0 + libm::exp(-x));
            s * (1.0 + x * (1.0 - s))
        }
        Activation::Gelu => {
            let density = libm::exp(-0.5 * x * x) / std::f64::consts::TAU.sqrt();
            0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)) + x * density
        }
        Activation::GeluTanh => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            let t = libm::tanh(scale * (x + 0.044_715 * x * x * x));
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * scale * (1.0 + 3.0 * 0.044_715 * x * x)
        }
    };
    slope as f32
}
