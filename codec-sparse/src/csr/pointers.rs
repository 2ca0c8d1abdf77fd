//! Compressed sparse rows with stored columns: the index of each segment's first value, and the
//! column of every value.

use std::ops::Range;

use codec_api::{Dtype, Payload, PayloadView, Result, Section};

use crate::form::{Batches, Form, Ints, Positions};
use crate::grid::{Grid, Segments};
use crate::mask::Mask;

const POINTERS: &str = "pointers";
const COLUMNS: &str = "columns";

/// Width of stored columns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pointers {
    /// 32 bits, as in software for sparse matrices.
    U32,
    /// 8 or 16 bits, depending on the length of the rows.
    Narrow,
}

impl Pointers {
    /// The dtype of columns, and the longest segment of a row.
    fn columns(self, grid: &Grid) -> (Dtype, usize) {
        match self {
            Self::U32 => (Dtype::U32, 1 << 24),
            Self::Narrow if grid.columns <= 1 << 8 => (Dtype::U8, 1 << 8),
            Self::Narrow => (Dtype::U16, 1 << 16),
        }
    }
}

/// The dtype of pointers: a tensor of 2³² units or more may have more values than 32 bits can
/// count.
fn pointer_dtype(grid: &Grid) -> Dtype {
    if grid.units() < 1 << 32 { Dtype::U32 } else { Dtype::U64 }
}

/// Bytes of an integer.
fn width(dtype: Dtype) -> u64 {
    dtype.bitsize() as u64 / 8
}

impl Form for Pointers {
    fn least_bytes(&self, grid: &Grid) -> u64 {
        let (_, segment) = self.columns(grid);
        width(pointer_dtype(grid)) * (grid.segments(segment).count() as u64 + 1)
    }

    fn bytes(&self, grid: &Grid, stored: &Mask) -> u64 {
        self.least_bytes(grid) + width(self.columns(grid).0) * stored.ones() as u64
    }

    fn write(&self, grid: &Grid, stored: &Mask, payload: Payload) -> Result<Payload> {
        let (dtype, segment) = self.columns(grid);
        let segments = grid.segments(segment);
        let (pointers, columns) = match dtype {
            Dtype::U8 => sections(dtype, segments, stored, |column| column as u8)?,
            Dtype::U16 => sections(dtype, segments, stored, |column| column as u16)?,
            _ => sections(dtype, segments, stored, |column| column as u32)?,
        };
        let length = [pointers.len()];
        let pointers = match pointer_dtype(grid) {
            Dtype::U32 => Section::from_values(Dtype::U32, length, pointers.into_iter().map(|p| p as u32).collect())?,
            dtype => Section::from_values(dtype, length, pointers)?,
        };
        payload.with(POINTERS, pointers)?.with(COLUMNS, columns)
    }

    fn is_in(&self, payload: &PayloadView<'_>) -> bool {
        let wide = payload.section(COLUMNS).is_ok_and(|columns| columns.spec().dtype() == Dtype::U32);
        payload.has(POINTERS) && wide == matches!(self, Self::U32)
    }

    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>> {
        let (dtype, segment) = self.columns(grid);
        let segments = grid.segments(segment);
        let pointers = Ints::read(payload, POINTERS, pointer_dtype(grid), segments.count() + 1)?;
        let columns = Ints::of_any_length(payload, COLUMNS, dtype)?;
        if pointers.get(0) != 0 || pointers.get(pointers.len() - 1) != columns.len() as u64 {
            let reason = format!("the pointers do not go from 0 to {}, the number of columns", columns.len());
            return Err(payload.corrupt(POINTERS, reason));
        }
        if !pointers.values_from(0).is_sorted() {
            return Err(payload.corrupt(POINTERS, "a pointer is below the one before it"));
        }
        Ok(Box::new(Rows { segments, pointers, columns, dtype }))
    }
}

/// Pointers and columns of the stored units.
fn sections<T: bytemuck::NoUninit + Send + Sync>(
    dtype: Dtype,
    segments: Segments,
    stored: &Mask,
    narrow: impl Fn(usize) -> T,
) -> Result<(Vec<u64>, Section)> {
    let mut pointers = Vec::with_capacity(segments.count() + 1);
    let mut columns = Vec::with_capacity(stored.ones());
    pointers.push(0);
    for segment in segments.iter() {
        let start = segment.start;
        stored.each(segment, |at| columns.push(narrow(at - start)));
        pointers.push(columns.len() as u64);
    }
    Ok((pointers, Section::from_values(dtype, [columns.len()], columns)?))
}

#[derive(Debug)]
struct Rows {
    segments: Segments,
    pointers: Ints,
    columns: Ints,
    dtype: Dtype,
}

impl Rows {
    fn visit_columns<const WIDTH: usize>(
        &self,
        rows: Range<usize>,
        batches: &mut Batches<'_>,
        widen: impl Fn([u8; WIDTH]) -> usize,
    ) -> Result<()> {
        let columns = self.columns.bytes().as_chunks::<WIDTH>().0;
        let (mut from, pointer) = (self.start(rows.start), rows.start * self.segments.per_row());
        for (segment, to) in self.segments.of_rows(rows).zip(self.pointers.values_from(pointer + 1)) {
            let to = to as usize;
            batches.extend(&columns[from..to], |column| segment.start + widen(column))?;
            batches.end_segment(segment.end)?;
            from = to;
        }
        batches.flush()
    }
}

impl Positions for Rows {
    fn count(&self) -> usize {
        self.columns.len()
    }

    fn start(&self, row: usize) -> usize {
        self.pointers.get(row * self.segments.per_row()) as usize
    }

    fn visit(&self, rows: Range<usize>, batches: &mut Batches<'_>) -> Result<()> {
        match self.dtype {
            Dtype::U8 => self.visit_columns(rows, batches, |[column]| column.into()),
            Dtype::U16 => self.visit_columns(rows, batches, |column| u16::from_le_bytes(column).into()),
            _ => self.visit_columns(rows, batches, |column| u32::from_le_bytes(column) as usize),
        }
    }

    fn bytes(&self) -> u64 {
        (self.pointers.bytes().len() + self.columns.bytes().len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use codec_api::TensorSpec;

    use super::*;

    fn least(form: Pointers, shape: [usize; 2]) -> u64 {
        form.least_bytes(&Grid::new(&TensorSpec::new(Dtype::F32, shape).unwrap()))
    }

    #[test]
    fn pointers_of_enormous_tensors_are_wider() {
        // Just below 2³² units, and exactly 2³².
        assert_eq!(least(Pointers::U32, [65_535, 65_536]), 4 * 65_536);
        assert_eq!(least(Pointers::U32, [65_536, 65_536]), 8 * 65_537);
        assert_eq!(least(Pointers::Narrow, [1 << 32, 1]), 8 * ((1 << 32) + 1));
    }

    #[test]
    fn long_rows_are_cut() {
        assert_eq!(least(Pointers::U32, [1, 1 << 40]), 8 * ((1 << 16) + 1));
        assert_eq!(least(Pointers::U32, [3, (1 << 24) + 1]), 4 * 7);
        assert_eq!(least(Pointers::Narrow, [3, (1 << 16) + 1]), 4 * 7);
        assert_eq!(least(Pointers::Narrow, [3, 1 << 16]), 4 * 4);
    }
}
