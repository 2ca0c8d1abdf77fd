//! One block: the best ring of bits for its weights.

use codec_api::util::pack_bits;

use super::layout::MAX_BLOCK;
use super::trellis::{Search, Trellis};

/// The weights of a block in the form that the search uses, and the states that it finds.
/// Everything is in the order of the search: the last weight comes first.
#[derive(Debug)]
pub(super) struct BlockCoder {
    trellis: Trellis,
    search: Search,
    /// Weights in units of the code's values.
    targets: Vec<f32>,
    importance: Vec<f32>,
    states: Vec<u16>,
    /// Limit of the targets. A target beyond it selects the same state, but costs the sums of
    /// errors digits.
    farthest: f64,
}

impl BlockCoder {
    pub(super) fn new(trellis: Trellis) -> Self {
        Self {
            search: Search::new(&trellis),
            targets: Vec::with_capacity(MAX_BLOCK),
            importance: Vec::with_capacity(MAX_BLOCK),
            states: Vec::with_capacity(MAX_BLOCK),
            farthest: 16.0 * f64::from(trellis.largest()),
            trellis,
        }
    }

    /// Finds the states for `weights`, whose decoded values are code values times `factor` times
    /// `scale`. `importance` gives the importance of a position in the block.
    pub(super) fn search(
        &mut self,
        weights: &[f32],
        scale: f64,
        factor: f32,
        importance: impl Fn(usize) -> f32,
    ) -> Moments {
        let (n, step, farthest) = (weights.len(), scale * f64::from(factor), self.farthest);
        self.targets.clear();
        self.targets.extend(weights.iter().rev().map(|w| (f64::from(*w) / step).clamp(-farthest, farthest) as f32));
        self.importance.clear();
        self.importance.extend((0..n).rev().map(importance));
        self.states.resize(n, 0);
        if n * self.trellis.bits < self.trellis.state_bits {
            self.search_all_rings();
        } else {
            self.search_paths();
        }
        let mut moments = Moments::default();
        for ((w, h), state) in weights.iter().rev().zip(&self.importance).zip(&self.states) {
            let value = self.trellis.value(usize::from(*state)) * factor;
            let (w, h, v) = (f64::from(*w), f64::from(*h), f64::from(value));
            let one = Moments {
                products: h * w * v,
                squares: h * v * v,
                error: h * (w - v * scale) * (w - v * scale),
                largest: value.abs(),
            };
            moments.add(&one);
        }
        moments
    }

    /// The bits of the block that was searched last.
    pub(super) fn packed(&self) -> Vec<u8> {
        let mask = (1 << self.trellis.bits) - 1;
        pack_bits(self.states.iter().rev().map(|state| u64::from(*state) & mask), self.trellis.bits)
    }

    /// The weights that these bits decode to with this scale.
    pub(super) fn decode(&self, scale: f32, weights: &mut [f32]) {
        for (w, state) in weights.iter_mut().zip(self.states.iter().rev()) {
            *w = if scale == 0.0 { 0.0 } else { self.trellis.value(usize::from(*state)) * scale };
        }
    }

    /// Takes the path from the middle of the weights on, and closes the ring where this path passes
    /// from the last weight to the first.
    fn search_paths(&mut self) {
        let n = self.targets.len();
        let middle = n / 2;
        self.targets.rotate_left(middle);
        self.importance.rotate_left(middle);
        self.search.path(&self.trellis, &self.targets, &self.importance, None, &mut self.states);
        let seam = usize::from(self.states[n - middle]) >> self.trellis.bits;
        self.targets.rotate_right(middle);
        self.importance.rotate_right(middle);
        self.search.path(&self.trellis, &self.targets, &self.importance, Some(seam), &mut self.states);
    }

    /// Tries all rings; used if they have fewer bits than a state.
    fn search_all_rings(&mut self) {
        let (n, trellis) = (self.targets.len(), &self.trellis);
        let mut least = (f32::INFINITY, 0);
        for ring in 0..1 << (n * trellis.bits) {
            let mut error = 0.0;
            for (i, (target, importance)) in self.targets.iter().zip(&self.importance).enumerate() {
                let off = trellis.value(trellis.state_in(ring, n, n - 1 - i)) - target;
                error += off * off * importance;
            }
            if error < least.0 {
                least = (error, ring);
            }
        }
        for (i, state) in self.states.iter_mut().enumerate() {
            *state = trellis.state_in(least.1, n, n - 1 - i) as u16;
        }
    }
}

/// Sums over coded weights, for the error and the best scale.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    /// `Σ h·w·v`, of the importance, the weight and the factor of the scale.
    products: f64,
    /// `Σ h·v²`.
    squares: f64,
    /// `Σ h·(w − v·scale)²`.
    pub(super) error: f64,
    /// The largest `|v|`.
    largest: f32,
}

impl Moments {
    pub(super) fn add(&mut self, other: &Self) {
        self.products += other.products;
        self.squares += other.squares;
        self.error += other.error;
        self.largest = self.largest.max(other.largest);
    }

    /// The scale with the least squared error that keeps all weights within f32; 0 if there is
    /// nothing to scale.
    pub(super) fn best_scale(&self) -> f32 {
        if self.squares == 0.0 {
            return 0.0;
        }
        // Leaves room for the three roundings of a decoded weight.
        let limit = f64::from(f32::MAX) / f64::from(self.largest.max(1.0)) * (1.0 - 1e-6);
        (self.products / self.squares).clamp(-limit, limit) as f32
    }
}
