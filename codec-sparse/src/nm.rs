//! At most N values in each group of M neighbours, `sparse.nm`: where in its group each value is, and the values, which another codec stores.
//!
//! Groups are M consecutive columns of a row; the last one of a row may be shorter. Each group stores exactly N values, a shorter
//! one as many as it has columns if that is fewer: the elements that are not zero, and zeros at the lowest columns between them where there are fewer. An
//! element is zero if all its bits are 0: −0 and NaN are values. Elements of a dtype below a byte go by whole bytes, all in one row. The
//! values, row by row, are a tensor of their own for the inner codec. Where a group has more than N values, or the form would not
//! be smaller than what the inner codec makes of the whole tensor, that is the payload.
//!
//! # Source
//! 2:4 sparsity: Mishra et al., *Accelerating sparse deep neural networks*, arXiv 2104.08378, section 3; as there, two bits say where in its
//! group each of the two values is.
//!
//! # Sections
//! With `R × C` the matrix view and `K = N·⌊C/M⌋ + min(N, C mod M)` values in a row:
//! - `values/…`: the inner codec's sections for the values, of the stored dtype (U8 below a byte) and shape `[R, K]`;
//! - `positions` U8 `[R, ⌈K·b/8⌉]` with `b = ⌈log₂ M⌉`: the column of each value in its group, ascending; a little-endian bit stream for each
//!   row, lowest bit first, whose unused last bits are 0;
//! - `crc32c` U32 `[1]`: CRC-32C of the whole tensor's stored bytes, if the inner codec is exact;
//! - or all of this is `dense/…`: the inner codec's sections for the whole tensor.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"sparse.nm","version":1,"inner":{"codec":"lossless.raw","version":1},"n":2,"m":4}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lossless as _, codec_sparse as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `inner` is `lossless.raw` where a spec leaves it out, `n` 2 and `m` 4. `m` 2 to 16, `n` 1 to `m`.
//!
//! # Bound
//! `Exact` with an exact inner codec, which makes this one exact for every dtype. Else measured, as `MaxAbs` (near the end of f32 as `RelFrobenius`): zeros stay zeros, but for
//! those that are stored as values.
//!
//! # Cost
//! What the inner codec takes for `R × K` values, `R·⌈K·b/8⌉` bytes, and 4 for the checksum: 9 bits per weight of F16 for 2:4. At most what the
//! inner codec takes for the whole tensor.
//!
//! # Limits
//! What the inner codec takes; it may need neither base nor calibration. If it does not take rows of `K` values, the whole tensor is its.

use std::borrow::Cow;

use codec_api::{
    Bounded, Bytes, Codec, CodecError, Dtype, FormatVersion, Payload, PayloadView, Preset, Result, Section, pack_bits,
    register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::kernel;

use crate::coder::{Coder, sparse_codec};
use crate::form::{Batches, Form, Positions, beyond};
use crate::grid::Grid;
use crate::mask::Mask;

const POSITIONS: &str = "positions";

/// Configuration of `sparse.nm`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[non_exhaustive]
pub struct Nm {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Stores the values.
    pub inner: Box<dyn Codec>,
    /// Values in a group; not more than `m`.
    n: Bounded<1, 16>,
    /// Columns of a group.
    m: Bounded<2, 16>,
}

/// The configuration as it is written, before `n` is compared with `m`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default)]
    version: FormatVersion<1>,
    inner: Box<dyn Codec>,
    #[serde(default = "Bounded::at::<2>")]
    n: Bounded<1, 16>,
    #[serde(default = "Bounded::at::<4>")]
    m: Bounded<2, 16>,
}

impl TryFrom<Unchecked> for Nm {
    type Error = String;

    fn try_from(Unchecked { version, inner, n, m }: Unchecked) -> Result<Self, String> {
        if n.get() > m.get() {
            return Err(format!("`n` is {n}: not more than `m`, which is {m}, is wanted"));
        }
        Ok(Self { version, inner, n, m })
    }
}

impl Nm {
    /// At most `n` values in groups of `m`. `None` if `n` is more than `m`.
    pub fn new(inner: Box<dyn Codec>, n: Bounded<1, 16>, m: Bounded<2, 16>) -> Option<Self> {
        Unchecked { version: FormatVersion, inner, n, m }.try_into().ok()
    }

    fn coder(&self) -> Coder<'_> {
        let groups = Groups { n: self.n.get() as usize, m: self.m.get() as usize };
        Coder::new(&*self.inner, vec![Box::new(groups)])
    }
}

sparse_codec! {
    #[typetag::serde(name = "sparse.nm")]
    Nm
}

/// The groups of a row.
#[derive(Clone, Copy, Debug)]
struct Groups {
    n: usize,
    m: usize,
}

impl Groups {
    /// Bits of a position.
    fn bits(self) -> usize {
        (self.m - 1).ilog2() as usize + 1
    }

    /// Values in a row of this many columns.
    fn row_values(self, columns: usize) -> usize {
        columns / self.m * self.n + self.n.min(columns % self.m)
    }

    /// Bytes of a row's positions.
    fn row_len(self, columns: usize) -> usize {
        (self.row_values(columns) * self.bits()).div_ceil(8)
    }

    /// First flat index and columns of every group.
    fn each(self, grid: &Grid) -> impl Iterator<Item = (usize, usize)> + use<> {
        grid.segments(self.m).iter().map(|group| (group.start, group.len()))
    }

    /// The positions of row `row` in their groups.
    fn row_positions(self, grid: &Grid, stored: &Mask, row: usize) -> Vec<u64> {
        let mut positions = Vec::with_capacity(self.row_values(grid.columns));
        let start = row * grid.columns;
        for group in (0..grid.columns).step_by(self.m) {
            let mut left = stored.bits(start + group, self.m.min(grid.columns - group));
            while left != 0 {
                positions.push(left.trailing_zeros().into());
                left &= left - 1;
            }
        }
        positions
    }
}

impl Form for Groups {
    fn least_bytes(&self, grid: &Grid) -> u64 {
        (grid.rows * self.row_len(grid.columns)) as u64
    }

    fn values_shape(&self, grid: &Grid, _: usize) -> Vec<usize> {
        vec![grid.rows, self.row_values(grid.columns)]
    }

    fn stored<'a>(&self, grid: &Grid, mask: &'a Mask) -> Option<Cow<'a, Mask>> {
        let mut filled = mask.clone();
        for (start, columns) in self.each(grid) {
            let bits = mask.bits(start, columns);
            if bits.count_ones() as usize > self.n {
                return None;
            }
            let mut all = bits;
            while (all.count_ones() as usize) < self.n.min(columns) {
                // Sets the lowest bit that is not.
                all |= all + 1;
            }
            filled.insert(start, all & !bits);
        }
        Some(Cow::Owned(filled))
    }

    fn bytes(&self, grid: &Grid, _: &Mask) -> u64 {
        self.least_bytes(grid)
    }

    fn write(&self, grid: &Grid, stored: &Mask, payload: Payload) -> Result<Payload> {
        let row_len = self.row_len(grid.columns);
        let mut packed = Vec::with_capacity(grid.rows * row_len);
        for row in 0..grid.rows {
            packed.extend(pack_bits(self.row_positions(grid, stored, row).into_iter(), self.bits()));
        }
        Ok(payload.with(POSITIONS, Section::new(Dtype::U8, [grid.rows, row_len], packed)?))
    }

    fn is_in(&self, payload: &PayloadView<'_>) -> bool {
        payload.has(POSITIONS)
    }

    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>> {
        let row_len = self.row_len(grid.columns);
        let packed = payload.bytes(POSITIONS, Dtype::U8, &[grid.rows, row_len])?.clone();
        Ok(Box::new(InGroups { groups: *self, grid: *grid, packed }))
    }
}

#[derive(Debug)]
struct InGroups {
    groups: Groups,
    grid: Grid,
    packed: Bytes,
}

impl InGroups {
    fn visit_row(&self, start: usize, packed: &[u8], batches: &mut Batches<'_>) -> Result<()> {
        let Groups { n, m } = self.groups;
        let mut codes = Codes { packed, pending: 0, count: 0, bits: self.groups.bits() };
        for group in (0..self.grid.columns).step_by(m) {
            let columns = m.min(self.grid.columns - group);
            let (values, mut last) = (n.min(columns), 0);
            for place in batches.room(values)? {
                last = codes.next();
                *place = start + group + last;
            }
            // They ascend, or are refused.
            if last >= columns {
                return Err(beyond(start + group + columns));
            }
            batches.added(values);
        }
        if codes.are_done() { Ok(()) } else { Err(beyond(start + self.grid.columns)) }
    }
}

kernel! {
    /// For 2 of 4, the bits of the eight columns that each byte's four positions belong to; whether they ascend in all groups.
    fn flags_of_pairs<'a>(_simd, packed: &'a [u8], flags: &'a mut [u8]) -> bool {
        let mut disorder = 0;
        for (flags, byte) in flags.iter_mut().zip(packed) {
            let bits: [u8; 4] = [bit(*byte), bit(byte >> 2), bit(byte >> 4), bit(byte >> 6)];
            disorder |= u8::from(bits[0] >= bits[1]) | u8::from(bits[2] >= bits[3]);
            *flags = bits[0] | bits[1] | (bits[2] | bits[3]) << 4;
        }
        disorder == 0
    }
}

/// `1 << (position & 3)`, in operations that there are for vectors of bytes.
#[inline(always)]
fn bit(position: u8) -> u8 {
    let odd = 1 + (position & 1);
    odd + 3 * odd * (position >> 1 & 1)
}

impl InGroups {
    /// A bit for each column of a row.
    fn flags_of_row(&self, start: usize, packed: &[u8], flags: &mut Flags) -> Result<()> {
        let (Groups { n, m }, columns) = (self.groups, self.grid.columns);
        let mut done = 0;
        if (n, m) == (2, 4) && flags.count.is_multiple_of(8) {
            // A byte is two groups.
            if !flags_of_pairs(packed, flags.whole_bytes(columns / 8)) {
                return Err(disorder(start));
            }
            done = columns / 8 * 8;
        }
        let mut codes = Codes { packed: &packed[done / 8..], pending: 0, count: 0, bits: self.groups.bits() };
        for group in (done..columns).step_by(m) {
            let (width, mut bits) = (m.min(columns - group), 0u64);
            for _ in 0..n.min(width) {
                let bit = 1 << codes.next();
                if bit <= bits {
                    return Err(disorder(start));
                }
                bits |= bit;
            }
            if bits >> width != 0 {
                return Err(beyond(start + group + width));
            }
            flags.push(bits, width);
        }
        if codes.are_done() { Ok(()) } else { Err(beyond(start + columns)) }
    }
}

fn disorder(row: usize) -> CodecError {
    CodecError::corrupt(POSITIONS, format!("the positions in a group of the row at element {row} do not ascend"))
}

/// Positions of a row, one after the other.
struct Codes<'a> {
    packed: &'a [u8],
    pending: u64,
    count: usize,
    bits: usize,
}

impl Codes<'_> {
    #[inline(always)]
    fn next(&mut self) -> usize {
        if self.count < self.bits {
            let (next, rest) = self.packed.split_at(self.packed.len().min(4));
            let mut word = [0; 8];
            word[..next.len()].copy_from_slice(next);
            self.pending |= u64::from_le_bytes(word) << self.count;
            (self.packed, self.count) = (rest, self.count + 32);
        }
        let code = self.pending as usize & ((1 << self.bits) - 1);
        (self.pending, self.count) = (self.pending >> self.bits, self.count - self.bits);
        code
    }

    /// Whether only zeros are left.
    fn are_done(&self) -> bool {
        self.pending == 0 && self.packed.iter().all(|byte| *byte == 0)
    }
}

impl Positions for InGroups {
    fn count(&self) -> usize {
        self.grid.rows * self.groups.row_values(self.grid.columns)
    }

    fn visit(&self, batches: &mut Batches<'_>) -> Result<()> {
        let row_len = self.groups.row_len(self.grid.columns);
        for (row, packed) in self.packed.chunks(row_len.max(1)).enumerate() {
            self.visit_row(row * self.grid.columns, packed, batches)?;
        }
        batches.flush()
    }

    fn flags(&self) -> Result<Option<Cow<'_, [u8]>>> {
        let mut flags = Flags { bytes: Vec::with_capacity(self.grid.units().div_ceil(8)), pending: 0, count: 0 };
        let row_len = self.groups.row_len(self.grid.columns);
        for (row, packed) in self.packed.chunks(row_len.max(1)).enumerate() {
            self.flags_of_row(row * self.grid.columns, packed, &mut flags)?;
        }
        Ok(Some(Cow::Owned(flags.finish())))
    }

    fn bytes(&self) -> u64 {
        self.packed.len() as u64
    }
}

/// Bits that become bytes, lowest first.
struct Flags {
    bytes: Vec<u8>,
    pending: u64,
    count: usize,
}

impl Flags {
    /// Adds `len` bits, at most 32.
    #[inline(always)]
    fn push(&mut self, bits: u64, len: usize) {
        self.pending |= bits << self.count;
        self.count += len;
        if self.count >= 32 {
            self.bytes.extend((self.pending as u32).to_le_bytes());
            (self.pending, self.count) = (self.pending >> 32, self.count - 32);
        }
    }

    /// Places for whole bytes, where the bits so far are some.
    fn whole_bytes(&mut self, len: usize) -> &mut [u8] {
        self.bytes.extend(&self.pending.to_le_bytes()[..self.count / 8]);
        (self.pending, self.count) = (0, 0);
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        &mut self.bytes[start..]
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.extend(&self.pending.to_le_bytes()[..self.count.div_ceil(8)]);
        self.bytes
    }
}

fn presets() -> Vec<Preset> {
    let header = r#"{"codec":"sparse.nm","version":1,"inner":{"codec":"lossless.raw","version":1},"n":2,"m":4}"#;
    Preset::from_header("2of4", header).into_iter().collect()
}

register_codec!("sparse.nm", "at most N values in groups of M, which go through another codec", presets,
    .children(&["inner"]).default_children(&["lossless.raw"]));
