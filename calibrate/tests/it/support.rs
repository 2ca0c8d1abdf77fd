//! Matrices and samples for tests.

use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Nearly normal numbers.
pub fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut unit = || (random.next_u64() >> 40) as f32 / (1u32 << 24) as f32;
    (0..count).map(|_| (0..12).map(|_| unit()).sum::<f32>() - 6.0).collect()
}

/// `tokens` vectors of `width` values that depend on each other.
pub fn samples(seed: u64, tokens: usize, width: usize) -> Vec<f32> {
    let mut values = normal(seed, tokens * width);
    for token in values.chunks_exact_mut(width) {
        for i in 1..width {
            token[i] = 0.8 * token[i - 1] + token[i] * (1.0 + (i % 5) as f32);
        }
    }
    values
}

/// `E[x xᵀ]`, row-major.
pub fn gram(samples: &[f32], width: usize) -> Vec<f32> {
    let tokens = samples.len() / width;
    let mut sums = vec![0.0f64; width * width];
    for x in samples.chunks_exact(width) {
        for i in 0..width {
            for j in 0..width {
                sums[i * width + j] += f64::from(x[i]) * f64::from(x[j]);
            }
        }
    }
    sums.iter().map(|sum| (sum / tokens as f64) as f32).collect()
}

/// The transposed matrix.
pub fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| values[i * columns + j])).collect()
}
