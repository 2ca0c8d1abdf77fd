//! How a tensor is cut into spans with a scale each, and a span into blocks, each of which is a
//! ring of bits.

use std::num::NonZeroUsize;

use codec_api::TensorSpec;

use super::Bitshift;

/// Weights of a block. The last block of a span also has the rest.
pub(super) const BLOCK: usize = 256;
/// Largest number of weights of a block.
pub(super) const MAX_BLOCK: usize = 2 * BLOCK - 1;

/// The geometry of one tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    elements: usize,
    /// Rows in a span; more than one only if the span is a single block.
    pub(super) rows: NonZeroUsize,
    /// Weights in a span, at least 1; the last span may have fewer.
    pub(super) span: usize,
    /// Bits for each weight.
    bits: usize,
}

impl Layout {
    pub(super) fn new(codec: &Bitshift, spec: &TensorSpec) -> Self {
        let (_, columns) = spec.matrix();
        let columns = columns.max(1);
        let rows = NonZeroUsize::new(BLOCK.div_ceil(columns)).unwrap_or(NonZeroUsize::MIN);
        Self { elements: spec.elements(), rows, span: rows.get() * columns, bits: codec.bits.get() as usize }
    }

    /// Number of spans.
    pub(super) fn spans(&self) -> usize {
        self.elements.div_ceil(self.span)
    }

    /// Number of weights in this span.
    #[inline(always)]
    pub(super) fn weights(&self, span: usize) -> usize {
        self.span.min(self.elements - span * self.span)
    }

    /// Bytes of the codes of a block or a span of `weights` weights.
    #[inline(always)]
    pub(super) fn bytes(&self, weights: usize) -> usize {
        (weights * self.bits).div_ceil(8)
    }

    /// Bytes of all codes.
    pub(super) fn codes_len(&self) -> usize {
        let rest = self.elements % self.span;
        self.elements / self.span * self.bytes(self.span) + self.bytes(rest)
    }
}

/// Lengths of the blocks in a span of `weights` weights.
#[inline(always)]
pub(super) fn blocks(weights: usize) -> impl Iterator<Item = usize> {
    let last = (weights / BLOCK).saturating_sub(1);
    (0..=last).map(move |block| if block == last { weights - last * BLOCK } else { BLOCK })
}
