//! How a tensor is cut into spans, which have a scale each, and spans into blocks, which are a ring of bits each.

use codec_api::TensorSpec;

use super::Bitshift;

/// Weights of a block. The last one of a span has the rest too.
pub(super) const BLOCK: usize = 256;
/// Most weights of a block.
pub(super) const MAX_BLOCK: usize = 2 * BLOCK - 1;

/// The geometry of one tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) elements: usize,
    /// Rows of a span.
    pub(super) rows: usize,
    /// Weights of a span; the last one may have fewer. At least 1.
    pub(super) span: usize,
    /// Bits of a weight.
    bits: usize,
}

impl Layout {
    pub(super) fn new(codec: &Bitshift, spec: &TensorSpec) -> Self {
        let (_, columns) = spec.matrix();
        let columns = columns.max(1);
        let rows = BLOCK.div_ceil(columns);
        Self { elements: spec.elements(), rows, span: rows * columns, bits: codec.bits.get() as usize }
    }

    /// How many spans there are.
    pub(super) fn spans(&self) -> usize {
        self.elements.div_ceil(self.span)
    }

    /// Weights of this span.
    #[inline(always)]
    pub(super) fn weights(&self, span: usize) -> usize {
        self.span.min(self.elements - span * self.span)
    }

    /// Bytes of the codes of so many weights, which are a block or a span.
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

/// Lengths of the blocks of a span of so many weights.
#[inline(always)]
pub(super) fn blocks(weights: usize) -> impl Iterator<Item = usize> {
    let last = (weights / BLOCK).saturating_sub(1);
    (0..=last).map(move |block| if block == last { weights - last * BLOCK } else { BLOCK })
}
