//! From weights to codes, in blocks of rows that stay in the cache. For each block: range and grid
//! of each group, then all codes and the largest error.

use codec_api::{CodecError, Dtype, EncodeCx, Payload, Result, Section, TensorView};

use super::layout::Layout;
use super::quantise::{Quantiser, quantise};
use super::range::{Range, covering, find_ranges};
use super::scale::{exponent_for, power_of_two};
use super::{IntQuant, clip};
use crate::blocks::check_finite;
use crate::error::certify;
use crate::packing::pack_all;

/// F16 octave of the first block's largest scale: five octaves are left for larger scales, 24 for
/// smaller ones.
const FIRST_OCTAVE: i32 = 10;
/// F16 octave of the tensor's largest scale in a second encode, which is needed if the scales of a
/// later block are much larger than those of the first. `clip` may raise a scale by less than two
/// octaves.
const TOP_OCTAVE: i32 = 13;

pub(super) fn encode(codec: &IntQuant, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
    let values = tensor.to_f32()?;
    let layout = Layout::new(codec, tensor.spec());
    let first = Encoder::new(codec, layout, None).run(&values, cx)?;
    let encoded = if let Some(encoded) = first {
        encoded
    } else {
        let exponent = common_exponent(codec, &layout, &values);
        let second = Encoder::new(codec, layout, Some(exponent)).run(&values, cx)?;
        second.ok_or_else(|| CodecError::Limit(format!("a scale is too large for the exponent {exponent}")))?
    };
    // One tick for all blocks, because a tensor may be encoded twice.
    cx.progress.tick(values.len() as u64);
    let mut payload = Payload::new(certify(encoded.largest))
        .with("codes", Section::new(Dtype::U8, [layout.rows, layout.row_len()], encoded.codes)?)
        .with("scales", Section::from_values(Dtype::F16, layout.group_shape(), encoded.halves)?)
        .with("exponent", Section::from_values(Dtype::I8, [1], vec![encoded.exponent.unwrap_or(0)])?);
    if !codec.symmetric {
        let packed = pack_all(layout.bits, &encoded.zeros);
        payload = payload.with("zeros", Section::new(Dtype::U8, [packed.len()], packed)?);
    }
    Ok(payload)
}

/// The exponent for the largest scale of the tensor.
fn common_exponent(codec: &IntQuant, layout: &Layout, values: &[f32]) -> i8 {
    let mut ranges = Vec::with_capacity(layout.groups());
    find_ranges(values, layout, &mut ranges);
    exponent_for(codec.codes().largest_step(&ranges), TOP_OCTAVE)
}

/// State of an encode.
struct Encoder<'a> {
    codec: &'a IntQuant,
    layout: Layout,
    /// Chosen at the first block that is not all zeros.
    exponent: Option<i8>,
    codes: Vec<u8>,
    halves: Vec<u16>,
    zeros: Vec<u8>,
    largest: f32,
}

impl<'a> Encoder<'a> {
    fn new(codec: &'a IntQuant, layout: Layout, exponent: Option<i8>) -> Self {
        let halves = Vec::with_capacity(layout.groups());
        let zeros = Vec::with_capacity(if codec.symmetric { 0 } else { layout.groups() });
        Self { codec, layout, exponent, codes: vec![0; layout.codes_len()], halves, zeros, largest: 0.0 }
    }

    /// Encodes block by block; `None` if a scale is too large for the exponent.
    fn run(mut self, values: &[f32], cx: &EncodeCx<'_>) -> Result<Option<Self>> {
        let rows = self.layout.block_rows();
        let (weights, bytes) = (rows * self.layout.columns, rows * self.layout.row_len());
        let mut codes = std::mem::take(&mut self.codes);
        let mut ranges = Vec::new();
        let mut done = 0;
        for (block, packed) in values.chunks(weights.max(1)).zip(codes.chunks_mut(bytes.max(1))) {
            cx.cancel.check()?;
            ranges.clear();
            check_finite(find_ranges(block, &self.layout, &mut ranges), block, done)?;
            let next = values.get(done + block.len()..).unwrap_or_default();
            if !self.block(block, next, &ranges, packed, cx)? {
                return Ok(None);
            }
            done += block.len();
        }
        // One group for the tensor exists even where there are no weights.
        self.halves.resize(self.layout.groups(), 0);
        self.zeros.resize(if self.codec.symmetric { 0 } else { self.layout.groups() }, 0);
        self.codes = codes;
        Ok(Some(self))
    }

    /// Encodes one block and prefetches `next`; false if a scale is too large for the exponent.
    fn block(
        &mut self,
        values: &[f32],
        next: &[f32],
        ranges: &[Range],
        packed: &mut [u8],
        cx: &EncodeCx<'_>,
    ) -> Result<bool> {
        let codes = self.codec.codes();
        if self.exponent.is_none() {
            let largest = codes.largest_step(ranges);
            self.exponent = (largest > 0.0).then(|| exponent_for(largest, FIRST_OCTAVE));
        }
        let exponent = self.exponent.unwrap_or(0);
        let normalise = power_of_two(-i32::from(exponent));
        let mut grids = covering(codes, ranges, normalise);
        if self.codec.clip {
            clip::search(codes, &self.layout, values, ranges, normalise, &mut grids, cx)?;
        }
        let Some(halves) = grids.round(codes.max, exponent) else { return Ok(false) };
        self.halves.extend_from_slice(&halves);
        if !self.codec.symmetric {
            self.zeros.extend(grids.zeros.iter().map(|zero| *zero as u8));
        }
        let quantiser = Quantiser::new(codes, &grids, exponent);
        self.largest = self.largest.max(quantise(values, next, &self.layout, &quantiser, packed));
        Ok(true)
    }
}
