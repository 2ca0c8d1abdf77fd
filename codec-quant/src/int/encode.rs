//! From weights to codes, in blocks of rows that stay in the cache. For each block: range and grid
//! of each group, then all codes.

use std::ops::Range;

use codec_api::util::{Importance, round};
use codec_api::{
    Certificate, CodecError, Dtype, EncodeCx, InputAxis, Payload, Result, Section, TensorSpec, TensorView, statistics,
};

use super::clip::Chooser;
use super::decode::{Params, decode_rows};
use super::layout::Layout;
use super::quantise::{Quantiser, quantise};
use super::range::{Codes, Extent, find_ranges};
use super::scale::{Grids, exponent_for};
use super::survey::Found;
use super::{Group, IntQuant};
use crate::blocks::check_finite;
use crate::packing::pack_all;

/// F16 octave of the first block's largest scale: five octaves are left for larger scales, 24 for
/// smaller ones.
pub(super) const FIRST_OCTAVE: i32 = 10;
/// F16 octave of the tensor's largest scale in a second encode, which is needed if the scales of a
/// later block are much larger than those of the first. `clip` may raise a scale by less than two
/// octaves.
const TOP_OCTAVE: i32 = 13;

pub(super) fn encode(codec: &IntQuant, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
    let layout = Layout::new(codec, tensor.spec());
    let encoded = if codec.group == Group::Tensor {
        one_group(codec, &layout, tensor, cx)?
    } else {
        let importance = importance(tensor.spec(), cx)?;
        groups(codec, &layout, importance.as_ref(), tensor, cx)?
    };
    // One tick for all blocks, because a tensor may be encoded twice.
    cx.progress.tick(tensor.spec().elements() as u64);
    let payload = encoded.scales.payload(&layout, encoded.packed)?;
    Ok(payload.with_measured(encoded.errors.certificate))
}

/// A tensor that is being encoded.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) scales: Scales,
    packed: Vec<u8>,
    errors: Errors,
}

/// The importances of columns. All weights of a row count the same, so that those of rows do not
/// matter to a group within a row.
pub(super) fn importance(spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Importance>> {
    Ok(Importance::new(spec, cx)?.filter(|importance| importance.axis() == InputAxis::Columns))
}

/// The exponent for the largest step of grids that cover these ranges; `None` if all are zeros.
pub(super) fn exponent(codes: Codes, ranges: &[Extent], octave: i32) -> Option<i8> {
    let largest = codes.largest_step(ranges);
    (largest > 0.0).then(|| exponent_for(largest, octave))
}

/// What is stored about the groups.
#[derive(Debug)]
pub(super) struct Scales {
    pub(super) codes: Codes,
    pub(super) exponent: i8,
    pub(super) halves: Vec<u16>,
    /// Empty if symmetric.
    pub(super) zeros: Vec<u8>,
}

impl Scales {
    pub(super) fn new(codes: Codes, exponent: i8, groups: usize) -> Self {
        let zeros = Vec::with_capacity(if codes.middle.is_some() { 0 } else { groups });
        Self { codes, exponent, halves: Vec::with_capacity(groups), zeros }
    }

    /// Rounds the grids of further groups and stores them. `None` if a step is too large for the
    /// exponent.
    pub(super) fn push(&mut self, grids: &mut Grids) -> Option<Quantiser> {
        self.halves.extend(grids.round(self.codes.max, self.exponent)?);
        if self.codes.middle.is_none() {
            self.zeros.extend(grids.zeros.iter().map(|zero| *zero as u8));
        }
        Some(Quantiser::new(self.codes, grids, self.exponent))
    }

    pub(super) fn payload(self, layout: &Layout, packed: Vec<u8>) -> Result<Payload> {
        let payload = Payload::new()
            .with("codes", Section::new(Dtype::U8, [layout.rows, layout.row_len()], packed)?)?
            .with("scales", Section::from_values(Dtype::F16, layout.group_shape(), self.halves)?)?
            .with("exponent", Section::from_values(Dtype::I8, [1], vec![self.exponent])?)?;
        if self.codes.middle.is_some() {
            return Ok(payload);
        }
        payload.with("zeros", Section::from_bytes(pack_all(layout.bits, &self.zeros))?)
    }
}

/// The grid of a tensor that is one group, from statistics of the tensor.
pub(super) fn grid_of_tensor(codec: &IntQuant, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<(Scales, Grids)> {
    let found = Found::read(&statistics(codec, tensor, cx)?.scalars)?;
    let (step, zero) = found.grid();
    let scales = Scales::new(found.codes(codec), found.exponent(codec), 1);
    Ok((scales, Grids { steps: vec![step], zeros: vec![zero] }))
}

fn one_group(codec: &IntQuant, layout: &Layout, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Encoded> {
    let (mut scales, mut grids) = grid_of_tensor(codec, tensor, cx)?;
    let quantiser = scales.push(&mut grids).ok_or_else(|| too_large(scales.exponent))?;
    let (decoders, mut errors) = (grids.decoders(scales.exponent), Errors::new(tensor));
    let mut packed = vec![0; layout.codes_len()];
    for (rows, packed) in layout.blocks().zip(packed.chunks_mut(layout.block_bytes())) {
        cx.cancel.check()?;
        let block = tensor.rows(rows.start, rows.end)?.to_f32()?;
        if cx.shared.is_some() {
            // Without a survey of this tensor nothing has looked at its values.
            check_finite(simd::max_abs(&block), &block, rows.start * layout.columns)?;
        }
        quantise(&block, next(tensor, &rows), layout, &quantiser, packed);
        errors.add(&block, layout, packed, &decoders)?;
    }
    Ok(Encoded { scales, packed, errors })
}

/// Encodes a tensor of groups within rows.
pub(super) fn groups(
    codec: &IntQuant,
    layout: &Layout,
    importance: Option<&Importance>,
    tensor: &TensorView<'_>,
    cx: &EncodeCx<'_>,
) -> Result<Encoded> {
    let chooser = Chooser::new(codec, layout, importance.map(Importance::inputs));
    if let Some(encoded) = blocks(&chooser, None, tensor, cx)? {
        return Ok(encoded);
    }
    let mut ranges = Vec::with_capacity(layout.groups());
    for rows in layout.blocks() {
        find_ranges(&tensor.rows(rows.start, rows.end)?.to_f32()?, layout, &mut ranges);
    }
    let exponent = exponent(chooser.codes, &ranges, TOP_OCTAVE).unwrap_or(0);
    drop(ranges);
    blocks(&chooser, Some(exponent), tensor, cx)?.ok_or_else(|| too_large(exponent))
}

/// Encodes block by block. Without an exponent, the first block that is not all zeros chooses it.
/// `None` if a scale is too large for the exponent.
fn blocks(
    chooser: &Chooser<'_>,
    mut exponent: Option<i8>,
    tensor: &TensorView<'_>,
    cx: &EncodeCx<'_>,
) -> Result<Option<Encoded>> {
    let (codes, layout, mut errors) = (chooser.codes, chooser.layout, Errors::new(tensor));
    let (mut scales, mut packed) = (Scales::new(codes, 0, layout.groups()), vec![0; layout.codes_len()]);
    let mut ranges = Vec::with_capacity(layout.block_groups());
    for (rows, packed) in layout.blocks().zip(packed.chunks_mut(layout.block_bytes())) {
        cx.cancel.check()?;
        ranges.clear();
        let block = tensor.rows(rows.start, rows.end)?.to_f32()?;
        check_finite(find_ranges(&block, layout, &mut ranges), &block, rows.start * layout.columns)?;
        exponent = exponent.or_else(|| self::exponent(codes, &ranges, FIRST_OCTAVE));
        scales.exponent = exponent.unwrap_or(0);
        let mut grids = chooser.grids(&block, &ranges, scales.exponent, cx)?;
        let Some(quantiser) = scales.push(&mut grids) else { return Ok(None) };
        quantise(&block, next(tensor, &rows), layout, &quantiser, packed);
        errors.add(&block, layout, packed, &grids.decoders(scales.exponent))?;
    }
    Ok(Some(Encoded { scales, packed, errors }))
}

/// The bytes after some rows, for prefetching. Widening reads those of 16-bit weights in order,
/// as the prefetcher of the CPU expects.
fn next<'a>(tensor: &TensorView<'a>, rows: &Range<usize>) -> &'a [u8] {
    let (columns, bytes) = (tensor.spec().matrix().1, tensor.bytes());
    if tensor.spec().dtype() == Dtype::F32 { &bytes[4 * columns * rows.end..] } else { &[] }
}

/// Weights measured at once: some rows that the first-level cache holds twice, or one row.
pub(super) fn measured_at_once(layout: &Layout) -> usize {
    const WEIGHTS: usize = 1 << 12;
    (WEIGHTS / layout.columns.max(1)).max(1) * layout.columns
}

/// Measures the decoded weights of block after block, while weights and codes are in the cache.
#[derive(Debug)]
struct Errors {
    dtype: Dtype,
    decoded: Vec<f32>,
    certificate: Certificate,
}

impl Errors {
    fn new(tensor: &TensorView<'_>) -> Self {
        Self { dtype: tensor.spec().dtype(), decoded: Vec::new(), certificate: Certificate::measure(&[], &[]) }
    }

    /// Adds rows of weights and their codes, in the order of the tensor.
    fn add(&mut self, values: &[f32], layout: &Layout, packed: &[u8], decoders: &[Params]) -> Result<()> {
        let at_once = measured_at_once(layout);
        for (i, source) in values.chunks(at_once.max(1)).enumerate() {
            self.decoded.resize(source.len(), 0.0);
            let decoded = &mut self.decoded[..];
            let first = i * at_once / layout.columns;
            decode_rows(layout, packed, decoders, first..first + source.len() / layout.columns, decoded);
            round(self.dtype, decoded)?;
            self.certificate.add(&Certificate::measure(source, decoded));
        }
        Ok(())
    }
}

pub(super) fn too_large(exponent: i8) -> CodecError {
    CodecError::Limit(format!("a scale is too large for the exponent {exponent}"))
}
