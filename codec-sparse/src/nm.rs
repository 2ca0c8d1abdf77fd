//! At most N values in each group of M neighbours, `sparse.nm`: the position of each value in its
//! group. Another codec stores the values.
//!
//! Groups are M consecutive columns of a row; the last one of a row may be shorter. Each group
//! stores exactly N values, or all its columns if it has fewer than N. These are the non-zero
//! elements; if a group has too few of them, zeros at its lowest free columns fill it up. An
//! element is zero if all its bits are 0, so −0 and NaN are values. For a dtype below a byte, the
//! units are whole bytes instead of elements, all in one row. The values, row by row, form a tensor
//! of their own for the inner codec. If a group has more than N non-zero elements, or this form
//! would not be smaller than the inner codec's payload for the whole tensor, the codec stores that
//! payload instead.
//!
//! # Source
//! 2:4 sparsity: Mishra et al., *Accelerating sparse deep neural networks*, arXiv 2104.08378,
//! section 3; as there, two bits give the position of each of the two values in its group.
//!
//! # Sections
//! With `R × C` the matrix view and `K = N·⌊C/M⌋ + min(N, C mod M)` values in a row:
//! - `values/…`: the inner codec's sections for the values, of the stored dtype (U8 below a byte)
//!   and shape `[R, K]`;
//! - `positions` U8 `[R, ⌈K·b/8⌉]` with `b = ⌈log₂ M⌉`: the column of each value in its group,
//!   ascending; a little-endian bit stream for each row, lowest bit first, and the unused last bits
//!   are 0;
//! - `crc32c` U32 `[1]`: CRC-32C of the whole tensor's stored bytes, if the inner codec is exact;
//! - or only `dense/…`: the inner codec's sections for the whole tensor.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"sparse.nm","version":1,"#,
//!     r#""inner":{"codec":"lossless.raw","version":1},"#,
//!     r#""n":2,"m":4}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lossless as _, codec_sparse as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `inner` is `lossless.raw` where a spec leaves it out, `n` is 2 and `m` is 4. `m` is 2 to 16, `n`
//! is 1 to `m`.
//!
//! # Bound
//! No error with an exact inner codec, which makes this codec exact for every dtype. Otherwise the
//! inner codec's error on the values; zeros stay zeros, except those stored as values.
//!
//! # Cost
//! The inner codec's cost for `R × K` values, `R·⌈K·b/8⌉` bytes, and 4 for the checksum: 9 bits per
//! weight of F16 for 2:4. At most the inner codec's cost for the whole tensor.
//!
//! # Limits
//! The inner codec's limits; it must need neither base nor calibration. If the inner codec refuses
//! rows of `K` values, it encodes the dense tensor instead.

use std::borrow::Cow;

use codec_api::util::{pack_bits, unpack_bits};
use codec_api::{
    Bounded, Codec, Dtype, FormatVersion, Payload, PayloadView, Preset, Result, Section, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::kernel;

use crate::bitmap::Bits;
use crate::coder::{Coder, sparse_codec};
use crate::form::{Form, Positions};
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
    /// Values in a group; at most `m`.
    n: Bounded<1, 16>,
    /// Columns of a group.
    m: Bounded<2, 16>,
}

/// The serialised configuration, before `n` is compared with `m`.
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
    /// At most `n` values in groups of `m`. `None` if `n` is greater than `m`.
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

    /// Values in a row of `columns` columns.
    fn row_values(self, columns: usize) -> usize {
        columns / self.m * self.n + self.n.min(columns % self.m)
    }

    /// Bytes of a row's positions.
    fn row_len(self, columns: usize) -> usize {
        (self.row_values(columns) * self.bits()).div_ceil(8)
    }

    /// First flat index and number of columns of every group of a row.
    fn each_of_row(self, grid: &Grid, row: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (m, columns) = (self.m, grid.columns);
        (0..columns).step_by(m).map(move |group| (row * columns + group, m.min(columns - group)))
    }

    /// The positions of the values of row `row` in their groups.
    fn row_positions(self, grid: &Grid, stored: &Mask, row: usize) -> Vec<u64> {
        let mut positions = Vec::with_capacity(self.row_values(grid.columns));
        for (start, columns) in self.each_of_row(grid, row) {
            let mut left = stored.bits(start, columns);
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
        for (start, columns) in (0..grid.rows).flat_map(|row| self.each_of_row(grid, row)) {
            let bits = mask.bits(start, columns);
            if bits.count_ones() as usize > self.n {
                return None;
            }
            let mut all = bits;
            while (all.count_ones() as usize) < self.n.min(columns) {
                // Sets the lowest bit that is 0.
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
        payload.with(POSITIONS, Section::new(Dtype::U8, [grid.rows, row_len], packed)?)
    }

    fn is_in(&self, payload: &PayloadView<'_>) -> bool {
        payload.has(POSITIONS)
    }

    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>> {
        let row_len = self.row_len(grid.columns);
        let packed = payload.bytes(POSITIONS, Dtype::U8, &[grid.rows, row_len])?.clone();
        let flags = self.flags(grid, &packed).map_err(|reason| payload.corrupt(POSITIONS, reason))?;
        Ok(Box::new(Bits::new(grid, flags.into())))
    }
}

impl Groups {
    /// One bit for each unit, set if the unit has a value.
    fn flags(self, grid: &Grid, packed: &[u8]) -> Result<Vec<u8>, String> {
        if (self.n, self.m) == (2, 4) && grid.columns.is_multiple_of(8) {
            // A byte holds two groups, and rows are whole bytes.
            let mut flags = vec![0; packed.len()];
            return if flags_of_pairs(packed, &mut flags) { Ok(flags) } else { Err(disorder(0)) };
        }
        let mut flags = Mask::none(grid.units());
        for (row, packed) in packed.chunks(self.row_len(grid.columns).max(1)).enumerate() {
            let mut codes = unpack_bits(packed, self.bits());
            for (start, columns) in self.each_of_row(grid, row) {
                let mut bits = 0u32;
                for code in codes.by_ref().take(self.n.min(columns)) {
                    let bit = 1 << code;
                    if bit <= bits {
                        return Err(disorder(start));
                    }
                    bits |= bit;
                }
                if bits >> columns != 0 {
                    return Err(format!("a position is beyond its group, which has {columns} columns"));
                }
                flags.insert(start, bits);
            }
            if codes.any(|code| code != 0) {
                return Err(format!("the last bits of row {row} are not 0"));
            }
        }
        Ok(flags.to_bytes())
    }
}

fn disorder(from: usize) -> String {
    format!("at or after element {from} the positions in a group do not ascend")
}

kernel! {
    /// For 2 of 4: converts each byte, four positions, to the bits of its eight columns. Returns
    /// whether the positions ascend in all groups.
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

/// `1 << (position & 3)`, in operations that exist for vectors of bytes.
#[inline(always)]
fn bit(position: u8) -> u8 {
    let odd = 1 + (position & 1);
    odd + 3 * odd * (position >> 1 & 1)
}

fn presets() -> Vec<Preset> {
    vec![Preset::from_spec("2of4", "sparse.nm(lossless.raw):n=2:m=4")]
}

fn probes() -> Vec<String> {
    let specs = ["sparse.nm:n=1:m=4", "sparse.nm(quant.int:bits=8):n=4:m=8", "sparse.nm:n=15:m=16"];
    specs.map(str::to_owned).into()
}

register_codec!("sparse.nm", "at most N values in groups of M, which go through another codec", presets,
    .children(&["inner"]).default_children(&["lossless.raw"]).probes(probes));
