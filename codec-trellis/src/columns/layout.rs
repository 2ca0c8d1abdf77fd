//! The order of the weights: which lane codes which of them.

use std::ops::Range;

use codec_api::TensorSpec;
use entropy::STATES;

use super::Order;

/// Most rows of a block.
const ROWS: usize = 32;

/// A matrix in blocks of rows, and segments of at most 32 blocks. Rows and columns are those of the
/// transposed matrix for [`Order::Rows`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Rows of a block.
    pub(super) height: usize,
    blocks: usize,
    /// Blocks of a segment.
    of_segment: usize,
}

/// The blocks of a segment, and the parts of their columns that keep 32 lanes busy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    layout: Layout,
    first: usize,
    blocks: usize,
    parts: usize,
}

impl Layout {
    pub(super) fn new(spec: &TensorSpec, order: Order) -> Self {
        let (rows, columns) = spec.matrix();
        let (rows, columns) = if order == Order::Rows { (columns, rows) } else { (rows, columns) };
        let height = rows.div_ceil(rows.div_ceil(ROWS).max(1)).max(1);
        let blocks = rows.div_ceil(height);
        let of_segment = blocks.div_ceil(blocks.div_ceil(STATES).max(1)).max(1);
        Self { rows, columns, height, blocks, of_segment }
    }

    pub(super) fn segments(self) -> usize {
        self.blocks.div_ceil(self.of_segment)
    }

    pub(super) fn segment(self, number: usize) -> Segment {
        let first = number * self.of_segment;
        let blocks = self.of_segment.min(self.blocks - first);
        let parts = 1 << (STATES / blocks).min(self.columns).max(1).ilog2();
        Segment { layout: self, first, blocks, parts }
    }

    /// The segment of a block.
    pub(super) fn segment_of(self, block: usize) -> Segment {
        self.segment(block / self.of_segment)
    }

    /// Index of a weight in the matrix view.
    pub(super) fn index(self, order: Order, row: usize, column: usize) -> usize {
        if order == Order::Rows { column * self.rows + row } else { row * self.columns + column }
    }
}

impl Segment {
    /// Columns of a part; the last parts may have fewer.
    pub(super) fn width(self) -> usize {
        self.layout.columns.div_ceil(self.parts)
    }

    /// Its rows.
    pub(super) fn rows(self) -> Range<usize> {
        let first = self.first * self.layout.height;
        first..(first + self.blocks * self.layout.height).min(self.layout.rows)
    }

    /// Number of its weights.
    pub(super) fn weights(self) -> usize {
        self.rows().len() * self.layout.columns
    }

    /// Steps of its lanes. Step `s` is row `s mod height` of a block in column `s / height` of a
    /// part.
    pub(super) fn steps(self) -> usize {
        self.width() * self.layout.height
    }

    /// Row and column of the weight that a lane has in a step, if it has one. Lanes go through the
    /// parts of the first block, then those of the next one.
    pub(super) fn place(self, step: usize, lane: usize) -> Option<(usize, usize)> {
        let (block, part) = (lane / self.parts, lane % self.parts);
        let row = (self.first + block) * self.layout.height + step % self.layout.height;
        let (column, width) = (step / self.layout.height, self.width());
        let column = part * width + column;
        (block < self.blocks && row < self.layout.rows && column < self.layout.columns).then_some((row, column))
    }
}
