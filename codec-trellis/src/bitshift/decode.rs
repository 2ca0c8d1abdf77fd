//! From rings of bits to weights.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{Bytes, Dtype, PayloadView, Result, RowReader, TensorSpec, check_rows};
use simd::{LANES, Simd, kernel, lanes, load, store, stream};

use super::Bitshift;
use super::code::{Code, Computed, OneMad, ThreeInst};
use super::layout::{Layout, MAX_BLOCK, blocks};
use super::scale::factor;

/// A checked payload.
#[derive(Debug)]
pub(super) struct Opened {
    layout: Layout,
    shape: (usize, usize),
    bits: u32,
    state_bits: u32,
    code: Code,
    codes: Bytes,
    scale: f32,
    levels: Bytes,
}

impl Opened {
    pub(super) fn new(codec: &Bitshift, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let layout = Layout::new(codec, spec);
        let codes = payload.bytes("codes", Dtype::U8, &[layout.codes_len()])?.clone();
        let levels = payload.bytes("levels", Dtype::U8, &[layout.spans()])?.clone();
        let scale = payload.values::<f32>("scale", Dtype::F32, &[1])?[0];
        if !scale.is_finite() {
            return Err(payload.corrupt("scale", format!("{scale} is not finite")));
        }
        let (bits, state_bits) = (codec.bits.get(), codec.state_bits.get());
        Ok(Self { layout, shape: spec.matrix(), bits, state_bits, code: codec.code, codes, scale, levels })
    }
}

impl RowReader for Opened {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn granule(&self) -> NonZeroUsize {
        self.layout.rows
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let (span, skipped) = (rows.start / self.layout.rows, rows.start % self.layout.rows);
        if skipped == 0 {
            decode(self, span, out);
            return Ok(());
        }
        // A span of several rows is a single block.
        let mut block = [0.0; MAX_BLOCK];
        let block = &mut block[..self.layout.weights(span)];
        decode(self, span, block);
        let wanted = &block[skipped * self.shape.1..];
        let (now, rest) = out.split_at_mut(wanted.len().min(out.len()));
        now.copy_from_slice(&wanted[..now.len()]);
        decode(self, span + 1, rest);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        (size_of::<Self>() + self.codes.len() + self.levels.len()) as u64
    }
}

kernel! {
    /// Decodes from this span on until `out` is full; `out` may end inside its last span.
    fn decode<'a>(simd, opened: &'a Opened, span: usize, out: &'a mut [f32]) {
        let spans = span..span + out.len().div_ceil(opened.layout.span);
        match (opened.code, opened.bits) {
            (Code::OneMad, 1) => decode_spans::<_, OneMad, 1>(simd, opened, spans, out),
            (Code::OneMad, 2) => decode_spans::<_, OneMad, 2>(simd, opened, spans, out),
            (Code::OneMad, 3) => decode_spans::<_, OneMad, 3>(simd, opened, spans, out),
            (Code::OneMad, _) => decode_spans::<_, OneMad, 4>(simd, opened, spans, out),
            (Code::ThreeInst, 1) => decode_spans::<_, ThreeInst, 1>(simd, opened, spans, out),
            (Code::ThreeInst, 2) => decode_spans::<_, ThreeInst, 2>(simd, opened, spans, out),
            (Code::ThreeInst, 3) => decode_spans::<_, ThreeInst, 3>(simd, opened, spans, out),
            (Code::ThreeInst, _) => decode_spans::<_, ThreeInst, 4>(simd, opened, spans, out),
        }
    }
}

/// Bytes of the longest block, and of the longest state that begins in the block's last byte.
const LONGEST: usize = (MAX_BLOCK * 4).div_ceil(8) + LANES;

#[inline(always)]
fn decode_spans<S: Simd, C: Computed, const BITS: usize>(
    simd: S,
    opened: &Opened,
    spans: Range<usize>,
    out: &mut [f32],
) {
    let layout = &opened.layout;
    let mask = (1 << opened.state_bits) - 1;
    stream(out, |writer| {
        for span in spans {
            let mut codes = &opened.codes[span * layout.bytes(layout.span)..];
            let scale = opened.scale * factor(opened.levels[span]);
            for weights in blocks(layout.weights(span)) {
                let (block, rest) = codes.split_at(layout.bytes(weights));
                codes = rest;
                let out = writer.next(weights);
                if scale == 0.0 {
                    out.fill(0.0);
                } else {
                    decode_block::<_, C, BITS>(simd, &ring::<BITS>(block, weights), mask, scale, out);
                }
            }
        }
    });
}

/// The bits of a block, followed by as many of its first bits as its last states need.
#[inline(always)]
fn ring<const BITS: usize>(codes: &[u8], weights: usize) -> [u8; LONGEST] {
    let mut ring = [0; LONGEST];
    ring[..codes.len()].copy_from_slice(codes);
    let length = weights * BITS;
    if let Some(first) = codes.first_chunk::<4>()
        && length == 8 * codes.len()
    {
        ring[codes.len()..codes.len() + 4].copy_from_slice(first);
        return ring;
    }
    for bit in length..length + 16 {
        // Overwrites the bits of the last byte that belong to no code.
        let again = codes[bit % length / 8] >> (bit % length % 8) & 1;
        ring[bit / 8] = ring[bit / 8] & !(1 << (bit % 8)) | again << (bit % 8);
    }
    ring
}

#[inline(always)]
fn decode_block<S: Simd, C: Computed, const BITS: usize>(
    simd: S,
    ring: &[u8; LONGEST],
    mask: u32,
    scale: f32,
    out: &mut [f32],
) {
    let (groups, rest) = out.as_chunks_mut::<LANES>();
    for (i, group) in groups.iter_mut().enumerate() {
        *group = weights::<_, C, BITS>(simd, &ring[2 * BITS * i..], mask, scale);
    }
    if !rest.is_empty() {
        store(weights::<_, C, BITS>(simd, &ring[2 * BITS * groups.len()..], mask, scale), rest);
    }
}

/// Decodes sixteen weights; `bytes` begins with the first state.
#[inline(always)]
fn weights<S: Simd, C: Computed, const BITS: usize>(simd: S, bytes: &[u8], mask: u32, scale: f32) -> [f32; LANES] {
    let windows = simd.windows::<BITS>(&load(bytes));
    let states = lanes!(i => windows[i] & mask);
    let values = C::values(simd, &states);
    lanes!(i => values[i] * scale)
}
