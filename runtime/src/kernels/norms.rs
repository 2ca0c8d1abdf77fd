//! Normalisation of a vector.

use simd::{LANES, Lanes, kernel, lanes, load, sum};

kernel! {
    /// `y = x / √(mean(x²) + ε) · weight`. All have equal lengths.
    pub fn rms_norm<'a>(_simd, x: &'a [f32], weight: &'a [f32], epsilon: f32, y: &'a mut [f32]) {
        let scale = 1.0 / (squares(x, 0.0) / x.len() as f32 + epsilon).sqrt();
        for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
            *y = x * scale * weight;
        }
    }
}

kernel! {
    /// `y = (x − mean(x)) / √(var(x) + ε) · weight + bias`. All have equal lengths.
    pub fn layer_norm<'a>(
        _simd,
        x: &'a [f32],
        weight: &'a [f32],
        bias: &'a [f32],
        epsilon: f32,
        y: &'a mut [f32],
    ) {
        let mean = total(x) / x.len() as f32;
        let scale = 1.0 / (squares(x, mean) / x.len() as f32 + epsilon).sqrt();
        for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * scale * weight + bias;
        }
    }
}

#[inline(always)]
fn total(x: &[f32]) -> f32 {
    let (blocks, rest) = x.as_chunks();
    let mut sums: Lanes<f32> = load(rest);
    for block in blocks {
        let block: &[f32; LANES] = block;
        sums = lanes!(i => sums[i] + block[i]);
    }
    sum(sums)
}

/// `Σ (x − mean)²`.
#[inline(always)]
fn squares(x: &[f32], mean: f32) -> f32 {
    let (blocks, rest) = x.as_chunks();
    let mut last = [mean; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let mut sums = lanes!(i => (last[i] - mean) * (last[i] - mean));
    for block in blocks {
        let block: &[f32; LANES] = block;
        sums = lanes!(i => sums[i] + (block[i] - mean) * (block[i] - mean));
    }
    sum(sums)
}
