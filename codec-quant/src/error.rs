//! The certified bound of every method here: the largest absolute error, measured lane by lane.

use codec_api::Bound;
use simd::LANES;

/// Running maximum of `|x − ŵ|` in f32, sixteen lanes at a time.
#[derive(Clone, Copy)]
pub(crate) struct MaxError([f32; LANES]);

impl MaxError {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, source: &[f32; LANES], decoded: &[f32; LANES]) {
        for i in 0..LANES {
            let error = (source[i] - decoded[i]).abs();
            self.0[i] = if error > self.0[i] { error } else { self.0[i] };
        }
    }

    /// The largest error over all lanes.
    #[inline(always)]
    pub(crate) fn get(self) -> f32 {
        self.0.into_iter().fold(0.0, f32::max)
    }
}

/// The bound for a largest error computed in f32. The subtraction rounds by at most half a unit in
/// the last place, so the next larger f32 is a bound.
pub(crate) fn certify(largest: f32) -> Bound {
    Bound::MaxAbs(if largest == 0.0 { 0.0 } else { largest.next_up() })
}
