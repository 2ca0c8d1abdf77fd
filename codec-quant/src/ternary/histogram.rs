//! The best threshold of ternary weights, from a histogram of their magnitudes.

/// Bits of a magnitude below those that number its bin: eight bins are an octave.
const OFFSET_BITS: u32 = 20;
/// Bins of the finite magnitudes.
const BINS: usize = (f32::INFINITY.to_bits() >> OFFSET_BITS) as usize;

/// Heap bytes of a histogram and of its [`Histogram::scalars`].
pub(super) const BYTES: u64 = 4 * 8 * BINS as u64;

/// For each bin, the number of weights, and the sum of their distances from its lower end in units
/// of the last place. Both are integers, so that their sums do not depend on the order.
pub(super) struct Histogram {
    bins: Vec<[u64; 2]>,
    /// The end of the bins in use.
    end: usize,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { bins: vec![[0; 2]; BINS], end: 0 }
    }

    /// Adds weights; leaves out those that are not finite.
    pub(super) fn add(&mut self, weights: &[f32]) {
        for w in weights {
            let bits = w.abs().to_bits();
            let bin = (bits >> OFFSET_BITS) as usize;
            if let Some([count, offsets]) = self.bins.get_mut(bin) {
                *count += 1;
                *offsets += u64::from(bits & ((1 << OFFSET_BITS) - 1));
                self.end = self.end.max(bin + 1);
            }
        }
    }

    /// The histogram as numbers, exact for tensors of fewer than 2³³ weights.
    pub(super) fn scalars(&self) -> impl Iterator<Item = f64> {
        self.bins[..self.end].as_flattened().iter().map(|sum| *sum as f64)
    }

    /// Adds a histogram given by its [`Self::scalars`].
    pub(super) fn add_scalars(&mut self, scalars: &[f64]) {
        for (sum, scalar) in self.bins.as_flattened_mut().iter_mut().zip(scalars) {
            *sum += *scalar as u64;
        }
        self.end = self.end.max(scalars.len() / 2).min(BINS);
    }

    /// The mean `α` of the largest magnitudes, as many bins of them as give ternary weights of
    /// `±α` the least squared error: the one with the largest `(Σ|w|)²/n` over these magnitudes.
    /// Leaves an empty histogram.
    pub(super) fn take_scale(&mut self) -> f64 {
        let (mut total, mut number, mut gain, mut scale) = (0.0, 0.0, 0.0, 0.0);
        for bin in (0..self.end).rev() {
            let [count, offsets] = std::mem::take(&mut self.bins[bin]).map(|sum| sum as f64);
            if count == 0.0 {
                continue;
            }
            let [low, next] = [0, 1].map(|place| f64::from(f32::from_bits(((bin as u32) << OFFSET_BITS) + place)));
            total += count * low + offsets * (next - low);
            number += count;
            if total * total > gain * number {
                (gain, scale) = (total * total / number, total / number);
            }
        }
        self.end = 0;
        scale
    }
}
