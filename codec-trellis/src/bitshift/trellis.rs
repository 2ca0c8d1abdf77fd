//! Viterbi's algorithm on the bitshift trellis.
//!
//! The state of a weight is the window of `L` bits that begins with the weight's own `k` bits. So
//! the state of the weight before is `state << k | its bits`, reduced to the low `L` bits. The
//! search therefore goes through the weights from the last to the first. A state shares its low
//! `L − k` bits, here called the overlap, with the next state searched. `2^k` states lead to the
//! same overlap, and the search keeps only the best of them.

use simd::{LANES, Simd, kernel, lanes};

use super::code::Code;

/// The states of a trellis and their values.
#[derive(Debug)]
pub(super) struct Trellis {
    /// Bits of a weight, `k`.
    pub(super) bits: usize,
    /// Bits of a state, `L`.
    pub(super) state_bits: usize,
    /// Values of the states: for each sixteen consecutive overlaps, the states with their `2^k`
    /// beginnings.
    values: Vec<[f32; LANES]>,
}

impl Trellis {
    pub(super) fn new(bits: usize, state_bits: usize, code: Code) -> Self {
        let beginnings = 1 << bits;
        let value = |block: usize, beginning: usize| {
            let first = (beginning << (state_bits - bits)) + block * LANES;
            code.values(&lanes!(i => (first + i) as u32))
        };
        let blocks = (1 << (state_bits - bits)) / LANES;
        let values = (0..blocks).flat_map(|block| (0..beginnings).map(move |b| value(block, b))).collect();
        Self { bits, state_bits, values }
    }

    /// Number of overlaps.
    pub(super) fn overlaps(&self) -> usize {
        1 << (self.state_bits - self.bits)
    }

    /// The largest magnitude of a value.
    pub(super) fn largest(&self) -> f32 {
        self.values.iter().flatten().fold(0.0, |most, value| value.abs().max(most))
    }

    /// The state of weight `i` in a ring for `n` weights. The ring repeats if it has fewer bits
    /// than a state.
    pub(super) fn state_in(&self, ring: usize, n: usize, i: usize) -> usize {
        (0..self.state_bits).fold(0, |state, j| state | (ring >> ((i * self.bits + j) % (n * self.bits)) & 1) << j)
    }

    /// The value of a state.
    pub(super) fn value(&self, state: usize) -> f32 {
        let (beginning, overlap) = (state >> (self.state_bits - self.bits), state & (self.overlaps() - 1));
        self.values[(overlap / LANES) << self.bits | beginning][overlap % LANES]
    }
}

/// The memory of a search over one block.
#[derive(Debug)]
pub(super) struct Search {
    /// Least error of a path to each overlap, before and after a weight.
    least: [Vec<f32>; 2],
    /// For each weight and overlap, the beginning of the best state.
    beginnings: Vec<u8>,
}

impl Search {
    pub(super) fn new(trellis: &Trellis) -> Self {
        let overlaps = trellis.overlaps();
        Self { least: [vec![0.0; overlaps], vec![0.0; overlaps]], beginnings: Vec::new() }
    }

    /// Finds the states for `targets` with the least sum of squared errors, weighted by
    /// `importance`. The path begins and ends with the overlap `seam`, or with any. `states` has
    /// the order of the targets. Of equally good paths, it takes the one with the lowest beginning
    /// of the last differing state.
    pub(super) fn path(
        &mut self,
        trellis: &Trellis,
        targets: &[f32],
        importance: &[f32],
        seam: Option<usize>,
        states: &mut [u16],
    ) {
        let overlaps = trellis.overlaps();
        self.beginnings.resize(targets.len() * overlaps, 0);
        self.least[0].fill(if seam.is_some() { f32::INFINITY } else { 0.0 });
        if let Some(overlap) = seam {
            self.least[0][overlap] = 0.0;
        }
        let [least, next] = &mut self.least;
        forward(trellis, targets, importance, least, next, &mut self.beginnings);
        let last = if targets.len().is_multiple_of(2) { least } else { next };
        let mut overlap = seam.unwrap_or_else(|| lowest(last));
        for (state, beginnings) in states.iter_mut().zip(self.beginnings.chunks_exact(overlaps)).rev() {
            let full = usize::from(beginnings[overlap]) << (trellis.state_bits - trellis.bits) | overlap;
            *state = full as u16;
            overlap = full >> trellis.bits;
        }
    }
}

/// Index of the least value, the first of equals.
fn lowest(values: &[f32]) -> usize {
    let least =
        values.iter().enumerate().fold((0, f32::INFINITY), |best, (i, v)| if *v < best.1 { (i, *v) } else { best });
    least.0
}

kernel! {
    /// One step for each target: from `least` to `next` and back.
    fn forward<'a>(
        simd,
        trellis: &'a Trellis,
        targets: &'a [f32],
        importance: &'a [f32],
        least: &'a mut [f32],
        next: &'a mut [f32],
        beginnings: &'a mut [u8],
    ) {
        match trellis.bits {
            1 => steps::<1, _>(simd, trellis, targets, importance, [least, next], beginnings),
            2 => steps::<2, _>(simd, trellis, targets, importance, [least, next], beginnings),
            3 => steps::<3, _>(simd, trellis, targets, importance, [least, next], beginnings),
            _ => steps::<4, _>(simd, trellis, targets, importance, [least, next], beginnings),
        }
    }
}

#[inline(always)]
fn steps<const BITS: usize, S: Simd>(
    simd: S,
    trellis: &Trellis,
    targets: &[f32],
    importance: &[f32],
    [least, next]: [&mut [f32]; 2],
    beginnings: &mut [u8],
) {
    let (mut from, mut to) = (least, next);
    let weights = targets.iter().zip(importance);
    for ((target, importance), beginnings) in weights.zip(beginnings.chunks_exact_mut(trellis.overlaps())) {
        step::<BITS, S>(simd, trellis, [*target, *importance], from, to, beginnings);
        (from, to) = (to, from);
    }
}

/// The best state for each overlap after a weight; `from` holds the least errors of the overlaps
/// before it.
#[inline(always)]
fn step<const BITS: usize, S: Simd>(
    simd: S,
    trellis: &Trellis,
    [target, importance]: [f32; 2],
    from: &[f32],
    to: &mut [f32],
    beginnings: &mut [u8],
) {
    // The states with one beginning come from `part` overlaps; the sixteen states in the lanes come
    // from `few` of these.
    let (part, few) = (from.len() >> BITS, LANES >> BITS);
    let blocks = to.as_chunks_mut::<LANES>().0.iter_mut().zip(beginnings.as_chunks_mut::<LANES>().0);
    for (block, ((to, beginnings), values)) in blocks.zip(trellis.values.chunks_exact(1 << BITS)).enumerate() {
        let mut least = [f32::INFINITY; LANES];
        let mut best = [0; LANES];
        for (beginning, values) in values.iter().enumerate() {
            let start = beginning * part + block * few;
            let before = &from[start..start + few];
            let errors: [f32; LANES] = lanes!(i => {
                let off = values[i] - target;
                off * off * importance + before[i >> BITS]
            });
            simd.keep_least(&errors, beginning as u32, &mut least, &mut best);
        }
        *to = least;
        *beginnings = lanes!(i => best[i] as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least error of all paths through three states that begin and end with the seam, or with
    /// any overlap.
    fn exhaustive(trellis: &Trellis, targets: [f32; 3], importance: [f32; 3], seam: Option<usize>) -> f32 {
        let (mask, bits) = ((1 << trellis.state_bits) - 1, 3 * trellis.bits);
        let mut least = f32::INFINITY;
        for start in seam.map_or(0..trellis.overlaps(), |seam| seam..seam + 1) {
            for path in 0..1 << bits {
                let whole = start << bits | path;
                let states: [usize; 3] = [2, 1, 0].map(|later| whole >> (later * trellis.bits) & mask);
                if seam.is_none_or(|seam| states[2] & (trellis.overlaps() - 1) == seam) {
                    least = least.min(error(trellis, targets, importance, states));
                }
            }
        }
        least
    }

    fn error(trellis: &Trellis, targets: [f32; 3], importance: [f32; 3], states: [usize; 3]) -> f32 {
        states.iter().zip(targets).zip(importance).fold(0.0, |sum, ((state, target), importance)| {
            let off = trellis.value(*state) - target;
            off * off * importance + sum
        })
    }

    #[test]
    fn the_path_found_is_the_best_of_all() {
        for (bits, state_bits) in [(4, 10), (4, 12), (3, 10)] {
            let trellis = Trellis::new(bits, state_bits, Code::OneMad);
            let mut search = Search::new(&trellis);
            for (i, importance) in [[1.0; 3], [0.5, 2.0, 0.1]].into_iter().enumerate() {
                let targets = [120.0 - 40.0 * i as f32, -77.0, 33.0];
                for seam in [None, Some(0), Some(45)] {
                    let mut states = [0; 3];
                    search.path(&trellis, &targets, &importance, seam, &mut states);
                    let states = states.map(usize::from);
                    let mask = (1 << state_bits) - 1;
                    assert!((0..2).all(|i| states[i] << bits & mask == states[i + 1] & !((1 << bits) - 1)));
                    if let Some(seam) = seam {
                        assert_eq!((states[0] >> bits, states[2] & (trellis.overlaps() - 1)), (seam, seam));
                    }
                    let found = error(&trellis, targets, importance, states);
                    assert_eq!(found, exhaustive(&trellis, targets, importance, seam), "{bits} {state_bits} {seam:?}");
                }
            }
        }
    }
}
