//! Coordinates of the non-zero elements, `sparse.coo`, counted through the whole tensor. Another
//! codec stores the values of these elements.
//!
//! An element is zero if all its bits are 0, so −0 and NaN are values. For a dtype below a byte,
//! the units are whole bytes instead of elements. The values, in row-major order, form a tensor of
//! their own for the inner codec. If values and coordinates together would not be smaller than the
//! inner codec's payload for the whole tensor, the codec stores that payload instead.
//!
//! # Source
//! The coordinate format (Saad, *Iterative Methods for Sparse Linear Systems*, 2nd edition, section
//! 3.4) with row-major flat indices in place of pairs. Blocks of 2¹⁶ elements keep the coordinates
//! at 16 bits, as the containers of Roaring bitmaps do (Chambi et al., arXiv 1402.6407, section 2).
//!
//! # Sections
//! With `N` elements and `V` values:
//! - `values/…`: the inner codec's sections for the values, of the stored dtype (U8 below a byte)
//!   and shape `[V]`;
//! - `counts` U32 `[⌈N/2¹⁶⌉]`: the number of values in each block of 2¹⁶ elements;
//! - `offsets` U16 `[V]`: the index of each value in its block;
//! - `crc32c` U32 `[1]`: CRC-32C of the whole tensor's stored bytes, if the inner codec is exact;
//! - or only `dense/…`: the inner codec's sections for the whole tensor.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"sparse.coo","version":1,"#,
//!     r#""inner":{"codec":"lossless.raw","version":1}}"#,
//! );
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lossless as _, codec_sparse as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `inner` is `lossless.raw` where a spec leaves it out.
//!
//! # Bound
//! No error with an exact inner codec, which makes this codec exact for every dtype. Otherwise the
//! inner codec's error on the values; zeros stay zeros.
//!
//! # Cost
//! The inner codec's cost for `V` values, `4·⌈N/2¹⁶⌉ + 2·V` bytes, and 4 for the checksum. At most
//! the inner codec's cost for the whole tensor.
//!
//! # Limits
//! The inner codec's limits; it must need neither base nor calibration. If the inner codec refuses
//! a row of `V` values, it encodes the dense tensor instead.

use std::ops::Range;

use codec_api::{Codec, Dtype, FormatVersion, Payload, PayloadView, Preset, Result, Section, register_codec, typetag};
use serde::{Deserialize, Serialize};

use crate::coder::{Coder, sparse_codec};
use crate::form::{Batches, Form, Ints, Positions};
use crate::grid::Grid;
use crate::mask::Mask;

const COUNTS: &str = "counts";
const OFFSETS: &str = "offsets";

/// Elements of a block, all addressable with 16 bits.
const BLOCK: usize = 1 << 16;

/// Configuration of `sparse.coo`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Coo {
    /// Format version.
    #[serde(default)]
    pub version: FormatVersion<1>,
    /// Stores the values.
    pub inner: Box<dyn Codec>,
}

impl Coo {
    /// Creates the codec; `inner` stores the values.
    pub fn new(inner: Box<dyn Codec>) -> Self {
        Self { version: FormatVersion, inner }
    }

    fn coder(&self) -> Coder<'_> {
        Coder::new(&*self.inner, vec![Box::new(Coordinates)])
    }
}

sparse_codec! {
    #[typetag::serde(name = "sparse.coo")]
    Coo
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Coordinates;

impl Form for Coordinates {
    fn least_bytes(&self, grid: &Grid) -> u64 {
        4 * grid.blocks(BLOCK).count() as u64
    }

    fn bytes(&self, grid: &Grid, stored: &Mask) -> u64 {
        self.least_bytes(grid) + 2 * stored.ones() as u64
    }

    fn write(&self, grid: &Grid, stored: &Mask, payload: Payload) -> Result<Payload> {
        let mut offsets = Vec::with_capacity(stored.ones());
        let mut counts = Vec::with_capacity(grid.blocks(BLOCK).count());
        for block in grid.blocks(BLOCK).iter() {
            let (before, start) = (offsets.len(), block.start);
            stored.each(block, |at| offsets.push((at - start) as u16));
            counts.push((offsets.len() - before) as u32);
        }
        payload
            .with(COUNTS, Section::from_values(Dtype::U32, [counts.len()], counts)?)?
            .with(OFFSETS, Section::from_values(Dtype::U16, [offsets.len()], offsets)?)
    }

    fn is_in(&self, payload: &PayloadView<'_>) -> bool {
        payload.has(OFFSETS)
    }

    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>> {
        let counts = Ints::read(payload, COUNTS, Dtype::U32, grid.blocks(BLOCK).count())?;
        let offsets = Ints::of_any_length(payload, OFFSETS, Dtype::U16)?;
        let counted: u64 = counts.values_from(0).sum();
        if counted != offsets.len() as u64 {
            let reason = format!("they add up to {counted}, and there are {} offsets", offsets.len());
            return Err(payload.corrupt(COUNTS, reason));
        }
        let mut starts = vec![0];
        starts.extend(counts.values_from(0).scan(0, |sum, count| {
            *sum += count as usize;
            Some(*sum)
        }));
        Ok(Box::new(Blocks { grid: *grid, offsets, starts }))
    }
}

#[derive(Debug)]
struct Blocks {
    grid: Grid,
    offsets: Ints,
    /// Number of values before each block; all of them at the end.
    starts: Vec<usize>,
}

impl Blocks {
    /// The offsets of a block.
    fn of(&self, block: usize) -> &[[u8; 2]] {
        &self.offsets.bytes().as_chunks().0[self.starts[block]..self.starts[block + 1]]
    }

    /// Number of values in a block before this unit.
    fn before(&self, block: usize, unit: usize) -> usize {
        self.of(block).partition_point(|offset| at(block, *offset) < unit)
    }
}

/// Flat index of the unit at an offset in a block.
fn at(block: usize, offset: [u8; 2]) -> usize {
    block * BLOCK + usize::from(u16::from_le_bytes(offset))
}

impl Positions for Blocks {
    fn count(&self) -> usize {
        self.offsets.len()
    }

    fn start(&self, row: usize) -> usize {
        let unit = row * self.grid.columns;
        let block = unit / BLOCK;
        self.starts[block] + if unit.is_multiple_of(BLOCK) { 0 } else { self.before(block, unit) }
    }

    fn visit(&self, rows: Range<usize>, batches: &mut Batches<'_>) -> Result<()> {
        let units = self.grid.units_of(&rows);
        for block in units.start / BLOCK..units.end.div_ceil(BLOCK) {
            let (mut offsets, end) = (self.of(block), self.grid.units().min((block + 1) * BLOCK));
            // A visit of all rows cuts no block, so it checks all offsets.
            if units.end < end {
                offsets = &offsets[..self.before(block, units.end)];
            }
            if units.start > block * BLOCK {
                offsets = &offsets[self.before(block, units.start)..];
            }
            batches.extend(offsets, |offset| at(block, offset))?;
            batches.end_segment(end)?;
        }
        batches.flush()
    }

    fn bytes(&self) -> u64 {
        (self.offsets.bytes().len() + size_of_val(&*self.starts)) as u64
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::from_spec("default", "sparse.coo(lossless.raw)")]
}

fn probes() -> Vec<String> {
    let specs = ["sparse.coo(quant.int:bits=8)", "sparse.coo(lossless.zstd)"];
    specs.map(str::to_owned).into()
}

register_codec!("sparse.coo", "flat coordinates in blocks of 65536, the values through another codec", presets,
    .children(&["inner"]).default_children(&["lossless.raw"]).probes(probes));
