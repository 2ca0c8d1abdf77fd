//! The segments of a tensor, which are coded separately.

use std::ops::Range;

use codec_api::TensorSpec;
use entropy::STATES;

/// Approximate weights of a segment: the states of a stream then take less than .004 bits per
/// weight.
const SEGMENT: usize = 1 << 18;

/// Fewest weights for each state of a stream.
const FOR_A_STATE: usize = 1 << 13;

/// The segments of a tensor: whole rows of its matrix view, or parts of rows longer than a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments {
    weights: usize,
    of_segment: usize,
}

impl Segments {
    pub(super) fn of(spec: &TensorSpec) -> Self {
        let (rows, columns) = spec.matrix();
        let weights = spec.elements();
        let count = weights.div_ceil(SEGMENT).max(1);
        let of_segment = if columns > SEGMENT { SEGMENT } else { rows.div_ceil(count) * columns };
        Self { weights, of_segment: of_segment.max(1) }
    }

    pub(super) fn count(self) -> usize {
        self.weights.div_ceil(self.of_segment)
    }

    /// Flat indices of the weights of a segment.
    pub(super) fn weights(self, segment: usize) -> Range<usize> {
        let first = segment * self.of_segment;
        first..(first + self.of_segment).min(self.weights)
    }

    /// The segments that hold a range of weights.
    pub(super) fn holding(self, weights: &Range<usize>) -> Range<usize> {
        weights.start / self.of_segment..weights.end.div_ceil(self.of_segment)
    }

    /// Number of weights of the longest segment.
    pub(super) fn longest(self) -> usize {
        self.of_segment.min(self.weights)
    }

    /// Bytes of the states of all streams: a lower bound of the payload.
    pub(super) fn state_bytes(self) -> u64 {
        let full = self.weights / self.of_segment;
        let rest = self.weights % self.of_segment;
        (full * 4 * width(self.of_segment) + if rest > 0 { 4 * width(rest).min(rest) } else { 0 }) as u64
    }
}

/// Number of states of a stream for `symbols` symbols.
pub(crate) fn width(symbols: usize) -> usize {
    1 << (symbols / FOR_A_STATE).clamp(1, STATES).ilog2()
}
