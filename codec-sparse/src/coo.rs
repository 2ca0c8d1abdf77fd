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
//! let header = r#"{"codec":"sparse.coo","version":1,"inner":{"codec":"lossless.raw","version":1}}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use {codec_lossless as _, codec_sparse as _};
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `inner` is `lossless.raw` where a spec leaves it out.
//!
//! # Bound
//! `Exact` with an exact inner codec, which makes this codec exact for every dtype. Otherwise
//! measured, as `MaxAbs` (near the end of f32 as `RelFrobenius`); zeros stay zeros.
//!
//! # Cost
//! The inner codec's cost for `V` values, `4·⌈N/2¹⁶⌉ + 2·V` bytes, and 4 for the checksum. At most
//! the inner codec's cost for the whole tensor.
//!
//! # Limits
//! The inner codec's limits; it must need neither base nor calibration. If the inner codec refuses
//! a row of `V` values, it encodes the dense tensor instead.

use codec_api::{Codec, Dtype, FormatVersion, Payload, PayloadView, Preset, Result, Section, register_codec, typetag};
use serde::{Deserialize, Serialize};

use crate::coder::{Coder, sparse_codec};
use crate::form::{Batches, Form, Ints, Positions};
use crate::grid::{Grid, Segments};
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
        Ok(payload
            .with(COUNTS, Section::from_values(Dtype::U32, [counts.len()], counts)?)
            .with(OFFSETS, Section::from_values(Dtype::U16, [offsets.len()], offsets)?))
    }

    fn is_in(&self, payload: &PayloadView<'_>) -> bool {
        payload.has(OFFSETS)
    }

    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>> {
        let segments = grid.blocks(BLOCK);
        let counts = Ints::read(payload, COUNTS, Dtype::U32, segments.count())?;
        let offsets = Ints::of_any_length(payload, OFFSETS, Dtype::U16)?;
        let counted: u64 = counts.iter().sum();
        if counted != offsets.len() as u64 {
            let reason = format!("they add up to {counted}, and there are {} offsets", offsets.len());
            return Err(payload.corrupt(COUNTS, reason));
        }
        Ok(Box::new(Blocks { segments, counts, offsets }))
    }
}

#[derive(Debug)]
struct Blocks {
    segments: Segments,
    counts: Ints,
    offsets: Ints,
}

impl Positions for Blocks {
    fn count(&self) -> usize {
        self.offsets.len()
    }

    fn visit(&self, batches: &mut Batches<'_>) -> Result<()> {
        let mut rest = self.offsets.bytes().as_chunks().0;
        for (block, count) in self.segments.iter().zip(self.counts.iter()) {
            let (offsets, others) = rest.split_at(count as usize);
            rest = others;
            batches.extend(offsets, |offset| block.start + usize::from(u16::from_le_bytes(offset)))?;
            batches.end_segment(block.end)?;
        }
        batches.flush()
    }

    fn bytes(&self) -> u64 {
        (self.counts.bytes().len() + self.offsets.bytes().len()) as u64
    }
}

fn presets() -> Vec<Preset> {
    let header = r#"{"codec":"sparse.coo","version":1,"inner":{"codec":"lossless.raw","version":1}}"#;
    Preset::from_header("default", header).into_iter().collect()
}

fn probes() -> Vec<String> {
    let specs = ["sparse.coo(quant.int:bits=8)", "sparse.coo(lossless.zstd)"];
    specs.map(str::to_owned).into()
}

register_codec!("sparse.coo", "flat coordinates in blocks of 65536, the values through another codec", presets,
    .children(&["inner"]).default_children(&["lossless.raw"]).probes(probes));
