//! The layout of codes and groups.

use std::ops::Range;

use codec_api::TensorSpec;
use simd::LANES;

use super::{Group, IntQuant};
use crate::packing::packed_len;

/// The geometry of one tensor, or of a block of its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) bits: usize,
    /// Columns of a group; at least 1.
    width: usize,
    /// All rows share one group.
    whole: bool,
}

impl Layout {
    pub(super) fn new(codec: &IntQuant, spec: &TensorSpec) -> Self {
        let (rows, columns) = spec.matrix();
        let width = if let Group::Size(size) = codec.group { size as usize } else { columns.max(1) };
        Self { rows, columns, bits: codec.bits.get() as usize, width, whole: codec.group == Group::Tensor }
    }

    /// Rows encoded per step: as many as stay in the cache.
    fn block_rows(&self) -> usize {
        const WEIGHTS: usize = 1 << 15;
        (WEIGHTS / self.columns.max(1)).max(1)
    }

    /// The rows of each step.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let (rows, all) = (self.block_rows(), self.rows);
        (0..all).step_by(rows).map(move |first| first..(first + rows).min(all))
    }

    /// Bytes of the codes of a step.
    pub(super) fn block_bytes(&self) -> usize {
        (self.block_rows() * self.row_len()).max(1)
    }

    /// Weights encoded per step, at most.
    pub(super) fn block_weights(&self) -> usize {
        self.block_rows().min(self.rows) * self.columns
    }

    /// Groups encoded per step, at most.
    pub(super) fn block_groups(&self) -> usize {
        let [rows, groups] = self.group_shape();
        self.block_rows().min(rows) * groups
    }

    /// Shape of `scales`.
    pub(super) fn group_shape(&self) -> [usize; 2] {
        if self.whole { [1, 1] } else { [self.rows, self.columns.div_ceil(self.width)] }
    }

    pub(super) fn groups(&self) -> usize {
        let [rows, groups] = self.group_shape();
        rows * groups
    }

    /// The layout of a panel of these columns, which is one group wide.
    pub(super) fn panel(&self, columns: usize) -> Self {
        Self { columns, ..*self }
    }

    /// Columns of a panel. One grid for the tensor does not depend on the columns before.
    pub(super) fn panel_width(&self) -> usize {
        if self.whole { self.columns } else { self.width }
    }

    /// The groups of a row.
    #[inline(always)]
    pub(super) fn of_row<'a, T>(&self, groups: &'a [T], row: usize) -> &'a [T] {
        let [_, count] = self.group_shape();
        if self.whole { groups } else { &groups[row * count..][..count] }
    }

    /// Lengths of rows and of groups: values are cut into rows of the first length, and rows into
    /// groups of the second.
    pub(super) fn group_spans(&self, values: &[f32]) -> (usize, usize) {
        let whole = values.len().max(1);
        if self.whole { (whole, whole) } else { (self.columns.max(1), self.width) }
    }

    /// Index, within its row, of the group at a column.
    #[inline(always)]
    pub(super) fn group_at(&self, column: usize) -> usize {
        column / self.width
    }

    /// Blocks of lanes per group. A group that ends within a block is the only one of its row.
    #[inline(always)]
    pub(super) fn group_blocks(&self) -> usize {
        if self.width.is_multiple_of(LANES) { self.width / LANES } else { usize::MAX }
    }

    /// Columns decoded per step: whole groups, or a part of a large group; a multiple of [`LANES`].
    pub(super) fn piece(&self) -> usize {
        const MOST: usize = 512;
        if self.width <= MOST && self.width.is_multiple_of(LANES) { MOST / self.width * self.width } else { MOST }
    }

    /// Bytes of one packed row.
    pub(super) fn row_len(&self) -> usize {
        packed_len(self.columns, self.bits)
    }

    pub(super) fn codes_len(&self) -> usize {
        self.rows * self.row_len()
    }

    pub(super) fn zeros_len(&self) -> usize {
        packed_len(self.groups(), self.bits)
    }
}
