//! A bit for each element, `sparse.bitmap`: 1 where the element is not zero. Another codec stores
//! the values of these elements.
//!
//! An element is zero if all its bits are 0, so −0 and NaN are values. For a dtype below a byte,
//! the units are whole bytes instead of elements. The values, in row-major order, form a tensor of
//! their own for the inner codec. If values and bitmap together would not be smaller than the inner
//! codec's payload for the whole tensor, the codec stores that payload instead.
//!
//! # Source
//! Bit masks as in `SparTen`, Gondimalla et al., *A sparse tensor accelerator for convolutional
//! neural networks*, MICRO 2019.
//!
//! # Sections
//! With `N` elements and `V` values:
//! - `values/…`: the inner codec's sections for the values, of the stored dtype (U8 below a byte)
//!   and shape `[V]`;
//! - `bitmap` U8 `[⌈N/8⌉]`: 1 for a value, the lowest bit first; the unused bits of the last byte
//!   are 0;
//! - `crc32c` U32 `[1]`: CRC-32C of the whole tensor's stored bytes, if the inner codec is exact;
//! - or only `dense/…`: the inner codec's sections for the whole tensor.
//!
//! # Header
//! ```
//! let header = concat!(
//!     r#"{"codec":"sparse.bitmap","version":1,"#,
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
//! The inner codec's cost for `V` values, `⌈N/8⌉` bytes, and 4 for the checksum. At most the inner
//! codec's cost for the whole tensor.
//!
//! # Limits
//! The inner codec's limits; it must need neither base nor calibration. If the inner codec refuses
//! a row of `V` values, it encodes the dense tensor instead.

use std::ops::Range;

use codec_api::{
    Bytes, Codec, Dtype, FormatVersion, Payload, PayloadView, Preset, Result, Section, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::kernel;

use crate::coder::{Coder, sparse_codec};
use crate::form::{Batches, Form, Positions};
use crate::grid::Grid;
use crate::mask::Mask;

const BITMAP: &str = "bitmap";

/// Configuration of `sparse.bitmap`; see the [module's documentation](self) for the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Bitmap {
    /// Format version.
    #[serde(default)]
    pub version: FormatVersion<1>,
    /// Stores the values.
    pub inner: Box<dyn Codec>,
}

impl Bitmap {
    /// Creates the codec; `inner` stores the values.
    pub fn new(inner: Box<dyn Codec>) -> Self {
        Self { version: FormatVersion, inner }
    }

    fn coder(&self) -> Coder<'_> {
        Coder::new(&*self.inner, vec![Box::new(Flags)])
    }
}

sparse_codec! {
    #[typetag::serde(name = "sparse.bitmap")]
    Bitmap
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags;

impl Form for Flags {
    fn least_bytes(&self, grid: &Grid) -> u64 {
        grid.units().div_ceil(8) as u64
    }

    fn bytes(&self, grid: &Grid, _: &Mask) -> u64 {
        self.least_bytes(grid)
    }

    fn write(&self, _: &Grid, stored: &Mask, payload: Payload) -> Result<Payload> {
        let bytes = stored.to_bytes();
        payload.with(BITMAP, Section::new(Dtype::U8, [bytes.len()], bytes)?)
    }

    fn is_in(&self, payload: &PayloadView<'_>) -> bool {
        payload.has(BITMAP)
    }

    fn read(&self, grid: &Grid, payload: &PayloadView<'_>) -> Result<Box<dyn Positions>> {
        let units = grid.units();
        let bitmap = payload.bytes(BITMAP, Dtype::U8, &[units.div_ceil(8)])?.clone();
        if bitmap.last().is_some_and(|last| u32::from(*last) >> (units + 8 - 8 * bitmap.len()) != 0) {
            return Err(payload.corrupt(BITMAP, format!("a bit beyond the tensor's {units} elements is set")));
        }
        Ok(Box::new(Bits::new(grid, bitmap)))
    }
}

kernel! {
    /// Adds the number of set bits up to the end of each part.
    fn count<'a>(_simd, bitmap: &'a [u8], starts: &'a mut Vec<usize>) {
        let mut sum = 0;
        for part in bitmap.chunks(PART / 8) {
            let (words, rest) = part.as_chunks();
            sum += words.iter().map(|word| u64::from_le_bytes(*word).count_ones() as usize).sum::<usize>();
            sum += rest.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
            starts.push(sum);
        }
    }
}

/// Words that one call of `find` searches.
const WORDS: usize = 8;
/// Bits per word that are extracted without testing for them: words of sparse tensors rarely have
/// more.
const AT_ONCE: usize = 8;

kernel! {
    /// Writes the indices of the set bits, counted from `start`, to `places`; returns their number.
    /// Places after them may receive arbitrary indices.
    fn find<'a>(_simd, words: &'a [u64; WORDS], start: usize, places: &'a mut [usize]) -> usize {
        let mut count = 0;
        for (i, word) in words.iter().enumerate() {
            let (mut left, mut at) = (*word, count);
            while left != 0 {
                for place in &mut places[at..at + AT_ONCE] {
                    *place = start + 64 * i + left.trailing_zeros() as usize;
                    left &= left.wrapping_sub(1);
                }
                at += AT_ONCE;
            }
            count += word.count_ones() as usize;
        }
        count
    }
}

/// Units that one call of `find` searches.
const PART: usize = 64 * WORDS;

/// Positions as one bit for each unit.
#[derive(Debug)]
pub(crate) struct Bits {
    grid: Grid,
    bitmap: Bytes,
    /// Number of values before each part of the units; all of them at the end.
    starts: Vec<usize>,
}

impl Bits {
    /// `bitmap` must have no bits set beyond the last unit.
    pub(crate) fn new(grid: &Grid, bitmap: Bytes) -> Self {
        let mut starts = Vec::with_capacity(bitmap.len() / (PART / 8) + 2);
        starts.push(0);
        count(&bitmap, &mut starts);
        Self { grid: *grid, bitmap, starts }
    }

    /// The bits of a part of the units that are in `units`.
    fn words(&self, part: usize, units: &Range<usize>) -> [u64; WORDS] {
        let (mut words, bytes) = ([0; WORDS], &self.bitmap[part * PART / 8..]);
        for (i, (word, bytes)) in words.iter_mut().zip(bytes.chunks(8)).enumerate() {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            let first = part * PART + 64 * i;
            let (below, above) = (units.start.saturating_sub(first), (first + 64).saturating_sub(units.end));
            let shift = |places: usize| places.min(64) as u32;
            let from = u64::MAX.checked_shl(shift(below)).unwrap_or(0);
            *word = u64::from_le_bytes(whole) & from & u64::MAX.checked_shr(shift(above)).unwrap_or(0);
        }
        words
    }
}

impl Positions for Bits {
    fn count(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn start(&self, row: usize) -> usize {
        let unit = row * self.grid.columns;
        let part = unit / PART;
        if unit.is_multiple_of(PART) {
            return self.starts[part];
        }
        let words = self.words(part, &(part * PART..unit));
        self.starts[part] + words.iter().map(|word| word.count_ones() as usize).sum::<usize>()
    }

    fn visit(&self, rows: Range<usize>, batches: &mut Batches<'_>) -> Result<()> {
        let units = self.grid.units_of(&rows);
        for part in units.start / PART..units.end.div_ceil(PART) {
            let count = find(&self.words(part, &units), part * PART, batches.room(PART + AT_ONCE)?);
            batches.added(count);
        }
        batches.flush()
    }

    fn flags(&self) -> Option<&[u8]> {
        Some(&self.bitmap)
    }

    fn bytes(&self) -> u64 {
        (self.bitmap.len() + size_of_val(&*self.starts)) as u64
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::from_spec("default", "sparse.bitmap(lossless.raw)")]
}

fn probes() -> Vec<String> {
    let specs = ["sparse.bitmap(quant.int:bits=8)", "sparse.bitmap(lossless.zstd)"];
    specs.map(str::to_owned).into()
}

register_codec!("sparse.bitmap", "a bit for each element, the values through another codec", presets,
    .children(&["inner"]).default_children(&["lossless.raw"]).probes(probes));
