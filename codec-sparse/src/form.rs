//! Sparse forms: ways to store the positions of the stored units, without their values.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;

use codec_api::{Bytes, CodecError, Dtype, Payload, PayloadView, Result};
use simd::kernel;

use crate::grid::Grid;
use crate::mask::Mask;

/// A way to store positions.
pub(crate) trait Form: Debug {
    /// Bytes of the positions when all units are zero: the minimum.
    fn least_bytes(&self, grid: &Grid) -> u64;

    /// Shape of the tensor of `count` values; `count` is 0 or the number of units of
    /// [`Self::stored`].
    fn values_shape(&self, grid: &Grid, count: usize) -> Vec<usize> {
        let _ = grid;
        vec![count]
    }

    /// The units to store: the non-zero ones, and fillers if the form needs them. `None` if the
    /// form cannot hold these units.
    fn stored<'a>(&self, grid: &Grid, mask: &'a Mask) -> Option<Cow<'a, Mask>> {
        let _ = grid;
        Some(Cow::Borrowed(mask))
    }

    /// Bytes of the positions of these units.
    fn bytes(&self, grid: &Grid, stored: &Mask) -> u64;

    /// Adds the sections with these units' positions.
    fn write(&self, grid: &Grid, stored: &Mask, payload: Payload) -> Result<Payload>;

    /// Whether a payload has the sections of this form.
    fn is_in(&self, payload: &PayloadView<'_>) -> bool;

    /// Reads the sections, and checks their sizes against the tensor's size and each other.
    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>>;
}

/// Stored positions. Their number is already checked against the sections; [`Positions::visit`]
/// checks the rest. A visit of all rows must come before [`Positions::start`] and before visits of
/// some rows.
pub(crate) trait Positions: Debug + Send + Sync {
    /// Number of all values.
    fn count(&self) -> usize;

    /// Number of values before this row, which may be the row after the last one.
    fn start(&self, row: usize) -> usize;

    /// Passes the positions in these rows to `batches`.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] if positions do not ascend within the rows and their segments, and
    /// any error of the batches' [`Taker`].
    fn visit(&self, rows: Range<usize>, batches: &mut Batches<'_>) -> Result<()>;

    /// The positions as one bit for each unit, lowest first, for forms that store them like this.
    fn flags(&self) -> Option<&[u8]> {
        None
    }

    /// Bytes kept in memory.
    fn bytes(&self) -> u64;
}

/// Positions passed on in one call.
pub(crate) const BATCH: usize = 1024;

/// Receives the positions, at most [`BATCH`] per call.
pub(crate) type Taker<'a> = &'a mut dyn FnMut(&[usize]) -> Result<()>;

/// Collects positions, and passes them on after checking that they ascend within a range of units.
pub(crate) struct Batches<'a> {
    /// The units behind the positions that have been passed on.
    left: Range<usize>,
    waiting: [usize; BATCH],
    count: usize,
    take: Taker<'a>,
}

impl<'a> Batches<'a> {
    /// Batches of positions in `units`.
    pub(crate) fn new(units: Range<usize>, take: Taker<'a>) -> Self {
        Self { left: units, waiting: [0; BATCH], count: 0, take }
    }

    /// Adds a position.
    #[inline(always)]
    pub(crate) fn push(&mut self, position: usize) -> Result<()> {
        if self.count == BATCH {
            self.flush()?;
        }
        self.waiting[self.count] = position;
        self.count += 1;
        Ok(())
    }

    /// Room for `len` positions at the end, at most [`BATCH`]. [`Self::added`] must follow with the
    /// number of positions written.
    #[inline(always)]
    pub(crate) fn room(&mut self, len: usize) -> Result<&mut [usize]> {
        if self.count + len > BATCH {
            self.flush()?;
        }
        Ok(&mut self.waiting[self.count..self.count + len])
    }

    /// Counts positions that were written to [`Self::room`].
    #[inline(always)]
    pub(crate) fn added(&mut self, len: usize) {
        self.count += len;
    }

    /// Adds positions.
    #[inline(always)]
    pub(crate) fn extend<T: Copy>(&mut self, items: &[T], position: impl Fn(T) -> usize) -> Result<()> {
        let mut items = items;
        while !items.is_empty() {
            if self.count == BATCH {
                self.flush()?;
            }
            let (now, later) = items.split_at(items.len().min(BATCH - self.count));
            for (place, item) in self.waiting[self.count..].iter_mut().zip(now) {
                *place = position(*item);
            }
            self.count += now.len();
            items = later;
        }
        Ok(())
    }

    /// Checks that all positions so far are below `end`.
    #[inline(always)]
    pub(crate) fn end_segment(&self, end: usize) -> Result<()> {
        let last = self.count.checked_sub(1).map_or(self.left.start, |last| self.waiting[last] + 1);
        if last <= end { Ok(()) } else { Err(beyond(end)) }
    }

    /// Passes on the waiting positions.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let waiting = &self.waiting[..self.count];
        let (Some(first), Some(last)) = (waiting.first(), waiting.last()) else { return Ok(()) };
        if !ascend(waiting) || *first < self.left.start || *last >= self.left.end {
            let reason = format!("the positions do not ascend to {}", self.left.end);
            return Err(CodecError::corrupt(POSITIONS, reason));
        }
        self.left.start = last + 1;
        self.count = 0;
        (self.take)(waiting)
    }
}

kernel! {
    /// Whether the positions strictly ascend.
    fn ascend<'a>(_simd, positions: &'a [usize]) -> bool {
        let pairs = positions.iter().zip(positions.iter().skip(1));
        pairs.map(|(one, next)| usize::from(one >= next)).sum::<usize>() == 0
    }
}

/// Section name in errors about positions, which may come from several sections.
pub(crate) const POSITIONS: &str = "positions";

/// The error for a position beyond its segment.
pub(crate) fn beyond(end: usize) -> CodecError {
    CodecError::corrupt(POSITIONS, format!("a position is beyond its row or block, which ends at element {end}"))
}

/// Unsigned integers of a section, of any alignment.
#[derive(Clone, Debug)]
pub(crate) struct Ints {
    bytes: Bytes,
    width: usize,
}

impl Ints {
    /// The integers of a section of any length.
    pub(crate) fn of_any_length(payload: &PayloadView<'_>, name: &str, dtype: Dtype) -> Result<Self> {
        let length = payload.section(name)?.spec().elements();
        Self::read(payload, name, dtype, length)
    }

    /// The integers of a section, which must have this length.
    pub(crate) fn read(payload: &PayloadView<'_>, name: &str, dtype: Dtype, length: usize) -> Result<Self> {
        let bytes = payload.bytes(name, dtype, &[length])?.clone();
        Ok(Self { bytes, width: dtype.bitsize() / 8 })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    /// The bytes of all integers.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        let mut value = [0; 8];
        value[..self.width].copy_from_slice(&self.bytes[index * self.width..][..self.width]);
        u64::from_le_bytes(value)
    }

    /// All integers from this index on, in order.
    pub(crate) fn values_from(&self, index: usize) -> impl Iterator<Item = u64> + '_ {
        (index..self.len()).map(|i| self.get(i))
    }
}
