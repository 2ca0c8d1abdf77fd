//! Compressed sparse rows with one byte for the number of zeros before each value.

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
        Ok(payload.with(GAPS, Section::from_bytes(gaps)?))
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
        Ok(Box::new(Rows::new(counts, gaps)))
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
    Ok((payload.with(COUNTS, counts), gaps))
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
        let total = each.iter().sum();
        Ok(Self { segments, each, total })
    }
}

#[derive(Debug)]
pub(super) struct Rows {
    counts: Counts,
    gaps: Bytes,
    /// Gaps that are not skips.
    values: usize,
}

impl Rows {
    /// `gaps` must have as many bytes as `counts` add up to.
    pub(super) fn new(counts: Counts, gaps: Bytes) -> Self {
        let values = gaps.iter().map(|gap| usize::from(*gap != SKIP)).sum();
        Self { counts, gaps, values }
    }
}

impl Positions for Rows {
    fn count(&self) -> usize {
        self.values
    }

    fn visit(&self, batches: &mut Batches<'_>) -> Result<()> {
        let mut rest: &[u8] = &self.gaps;
        for (segment, count) in self.counts.segments.iter().zip(self.counts.each.iter()) {
            let (gaps, others) = rest.split_at(count as usize);
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
        (self.counts.each.bytes().len() + self.gaps.len()) as u64
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
