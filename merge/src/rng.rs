//! Random masks from a counter: a draw depends on its key and its position only, not on blocks,
//! threads or other tensors.

/// A stream of 32-bit draws with random access. Draw `i` is one half of output `⌊i/2⌋` of the
/// generator `SplitMix64` whose state begins at the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Draws(u64);

/// The step of `SplitMix64`.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draws {
    /// The stream of a model's tensor.
    pub fn new(seed: u64, model: usize, tensor: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"netweight merge mask 1");
        hasher.update(&seed.to_le_bytes()).update(&(model as u64).to_le_bytes()).update(tensor.as_bytes());
        let mut key = [0; 8];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(key))
    }

    /// The draw of this element, uniform in `0..2³²`.
    #[inline(always)]
    pub fn at(self, element: usize) -> u32 {
        let pair = element as u64 >> 1;
        let mut z = self.0.wrapping_add(STEP.wrapping_mul(pair + 1));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> ((element & 1) * 32)) as u32
    }

    /// Whether this element is drawn, with this probability.
    #[inline(always)]
    pub fn keeps(self, element: usize, probability: f64) -> bool {
        f64::from(self.at(element)) < probability * 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_fixed_and_fair() {
        let draws = Draws::new(7, 1, "a");
        assert_ne!(draws, Draws::new(7, 2, "a"));
        assert_ne!(draws, Draws::new(8, 1, "a"));
        assert_ne!(draws, Draws::new(7, 1, "b"));
        let n = 1 << 20;
        for probability in [0.1, 0.5, 0.93] {
            let kept = (0..n).filter(|i| draws.keeps(*i, probability)).count() as f64;
            let deviation = (kept - probability * n as f64) / (n as f64 * probability * (1.0 - probability)).sqrt();
            assert!(deviation.abs() < 4.0, "{probability}: {deviation}");
        }
        assert_eq!((0..10).filter(|i| draws.keeps(*i, 1.0)).count(), 10);
    }
}
