//! Compressed sparse rows with one byte for the number of zeros before each value.

use std::ops::Range;

use codec_api::{Bytes, Dtype, Payload, PayloadView, Result, Section};

use crate::form::{Batches, Form, Ints, Positions, beyond};
use crate::grid::{Grid, Segments};
use crate::mask::Mask;

pub(super) const COUNTS: &str = "counts";
const GAPS: &str = "gaps";

/// A gap of this many zeros without a value at its end.
const SKIP: u8 = u8::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap;

/// The dtype of counts, and the longest segment of a row: its number of gap bytes must fit the
/// dtype.
fn counts(grid: &Grid) -> (Dtype, usize) {
    // Each byte covers at least one unit. A row of 255 has no room for a skip and more.
    if grid.columns <= u8::MAX.into() { (Dtype::U8, u8::MAX.into()) } else { (Dtype::U16, 1 << 15) }
}

impl Form for Gap {
    fn least_bytes(&self, grid: &Grid) -> u64 {
        let (dtype, segment) = counts(grid);
        (grid.segments(segment).count() * (dtype.bitsize() / 8)) as u64
    }

    fn bytes(&self, grid: &Grid, stored: &Mask) -> u64 {
        let mut gaps = stored.ones() as u64;
        for segment in grid.segments(counts(grid).1).iter() {
            let mut next = segment.start;
            stored.each(segment, |at| {
                gaps += ((at - next) / usize::from(SKIP)) as u64;
                next = at + 1;
            });
        }
        self.least_bytes(grid) + gaps
    }

    fn write(&self, grid: &Grid, stored: &Mask, payload: Payload) -> Result<Payload> {
        let (payload, gaps) = lay_out(grid, stored, payload)?;
        payload.with(GAPS, Section::from_bytes(gaps)?)
    }

    fn is_in(&self, payload: &PayloadView<'_>) -> bool {
        payload.has(GAPS)
    }

    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>> {
        let counts = Counts::read(grid, payload)?;
        let gaps = payload.byte_section(GAPS)?.clone();
        if counts.total != gaps.len() as u64 {
            let reason = format!("they add up to {}, and there are {} gaps", counts.total, gaps.len());
            return Err(payload.corrupt(COUNTS, reason));
        }
        Ok(Box::new(Rows::new(grid, counts, gaps)))
    }
}

/// Adds the section of counts; returns the gaps too.
pub(super) fn lay_out(grid: &Grid, stored: &Mask, payload: Payload) -> Result<(Payload, Vec<u8>)> {
    let (dtype, segment) = counts(grid);
    let mut gaps = Vec::with_capacity(stored.ones());
    let mut counts = Vec::with_capacity(grid.segments(segment).count());
    for segment in grid.segments(segment).iter() {
        let (before, mut next) = (gaps.len(), segment.start);
        stored.each(segment, |at| {
            let mut gap = at - next;
            while gap >= SKIP.into() {
                gaps.push(SKIP);
                gap -= usize::from(SKIP);
            }
            gaps.push(gap as u8);
            next = at + 1;
        });
        counts.push((gaps.len() - before) as u16);
    }
    let counts = match dtype {
        Dtype::U8 => Section::new(dtype, [counts.len()], counts.iter().map(|n| *n as u8).collect::<Vec<_>>())?,
        _ => Section::from_values(dtype, [counts.len()], counts)?,
    };
    Ok((payload.with(COUNTS, counts)?, gaps))
}

/// Number of gap bytes in each segment.
#[derive(Debug)]
pub(super) struct Counts {
    segments: Segments,
    each: Ints,
    pub(super) total: u64,
}

impl Counts {
    pub(super) fn read(grid: &Grid, payload: &PayloadView<'_>) -> Result<Self> {
        let (dtype, segment) = counts(grid);
        let segments = grid.segments(segment);
        let each = Ints::read(payload, COUNTS, dtype, segments.count())?;
        let total = each.values_from(0).sum();
        Ok(Self { segments, each, total })
    }

    /// Number of gap bytes of each segment of these rows, with the flat indices of its units.
    fn of_rows(&self, rows: Range<usize>) -> impl Iterator<Item = (Range<usize>, usize)> {
        let each = self.each.values_from(rows.start * self.segments.per_row());
        self.segments.of_rows(rows).zip(each.map(|count| count as usize))
    }
}

#[derive(Debug)]
pub(super) struct Rows {
    counts: Counts,
    gaps: Bytes,
    /// A start is known of every row whose index is a multiple of this number.
    every: usize,
    /// Where these rows start.
    starts: Vec<Start>,
    /// Number of all values.
    values: usize,
}

/// The first gap and the first value of a row.
#[derive(Clone, Copy, Debug)]
struct Start {
    gap: usize,
    value: usize,
}

/// Least number of units between two known starts, so that starts take few bytes where rows are
/// short.
const UNITS_OF_START: usize = 64;

impl Rows {
    /// `gaps` must have as many bytes as `counts` add up to.
    pub(super) fn new(grid: &Grid, counts: Counts, gaps: Bytes) -> Self {
        let every = UNITS_OF_START.div_ceil(grid.columns.max(1));
        let mut starts = Vec::with_capacity(grid.rows / every + 1);
        starts.push(Start { gap: 0, value: 0 });
        let mut rows = Self { counts, gaps, every, starts, values: 0 };
        for row in (every..=grid.rows).step_by(every) {
            rows.starts.push(rows.start_of(row));
        }
        rows.values = rows.start_of(grid.rows).value;
        rows
    }

    /// Where a row starts, counted from the last known start before it.
    fn start_of(&self, row: usize) -> Start {
        let known = (row / self.every).min(self.starts.len() - 1);
        let Start { gap, value } = self.starts[known];
        let gaps: usize = self.counts.of_rows(known * self.every..row).map(|(_, count)| count).sum();
        // Skips have no value.
        let values = self.gaps[gap..gap + gaps].iter().map(|gap| usize::from(*gap != SKIP)).sum::<usize>();
        Start { gap: gap + gaps, value: value + values }
    }
}

impl Positions for Rows {
    fn count(&self) -> usize {
        self.values
    }

    fn start(&self, row: usize) -> usize {
        self.start_of(row).value
    }

    fn visit(&self, rows: Range<usize>, batches: &mut Batches<'_>) -> Result<()> {
        let mut rest = &self.gaps[self.start_of(rows.start).gap..];
        for (segment, count) in self.counts.of_rows(rows) {
            let (gaps, others) = rest.split_at(count);
            rest = others;
            let mut next = segment.start;
            for gap in gaps {
                next += usize::from(*gap);
                if *gap != SKIP {
                    batches.push(next)?;
                    next += 1;
                }
            }
            if next > segment.end {
                return Err(beyond(segment.end));
            }
        }
        batches.flush()
    }

    fn bytes(&self) -> u64 {
        (self.counts.each.bytes().len() + self.gaps.len() + size_of_val(&*self.starts)) as u64
    }
}

#[cfg(test)]
mod tests {
    use codec_api::TensorSpec;

    use super::*;

    #[test]
    fn no_segment_has_more_gaps_than_its_count_can_say() {
        for columns in [255, 256, 70_000] {
            let grid = Grid::new(&TensorSpec::new(Dtype::U8, [2, columns]).unwrap());
            let (dtype, segment) = counts(&grid);
            // The worst cases: all values, or zeros with one value at the end.
            let most = segment.min(columns).max(segment / 255 + 1);
            assert!(most < 1 << dtype.bitsize(), "{columns} columns");
        }
    }
}
