//! From rings of bits to weights.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{Bytes, Dtype, PayloadView, Result, RowReader, TensorSpec, check_rows};
use simd::{LANES, Simd, kernel, lanes, load, store, stream};

use super::Bitshift;
use super::code::{Code, Computed, OneMad, ThreeInst};
use super::layout::{BLOCK, Layout, MAX_BLOCK, blocks};
use super::linear::with_code;
use super::scale::factor;

/// A checked payload.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) layout: Layout,
    shape: (usize, usize),
    pub(super) bits: u32,
    state_bits: u32,
    pub(super) code: Code,
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

    /// The codes from those of a span on.
    #[inline(always)]
    pub(super) fn codes_from(&self, span: usize) -> &[u8] {
        &self.codes[span * self.layout.bytes(self.layout.span)..]
    }

    /// The scale of a span.
    #[inline(always)]
    pub(super) fn scale_of(&self, span: usize) -> f32 {
        self.scale * factor(self.levels[span])
    }

    /// The bits of a state.
    #[inline(always)]
    pub(super) fn mask(&self) -> u32 {
        (1 << self.state_bits) - 1
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
        with_code!(opened, decode_spans(simd, opened, spans, out));
    }
}

#[inline(always)]
fn decode_spans<S: Simd, C: Computed, const BITS: usize>(
    simd: S,
    opened: &Opened,
    spans: Range<usize>,
    out: &mut [f32],
) {
    stream(out, |writer| {
        for span in spans {
            let mut codes = opened.codes_from(span);
            let scale = opened.scale_of(span);
            for weights in blocks(opened.layout.weights(span)) {
                let ring = ring::<BITS>(codes, weights);
                codes = &codes[opened.layout.bytes(weights)..];
                let out = writer.next(weights);
                if scale == 0.0 {
                    out.fill(0.0);
                } else {
                    decode_block::<_, C, BITS>(simd, &ring, opened.mask(), scale, out);
                }
            }
        }
    });
}

/// Bytes of the longest block, and of the longest state that begins in the block's last byte.
const LONGEST: usize = (MAX_BLOCK * 4).div_ceil(8) + LANES;

/// The bits of a block, followed by as many of its first bits as its last states need.
pub(super) type Ring = [u8; LONGEST];

/// The ring of the block of so many weights at the beginning of the codes.
#[inline(always)]
pub(super) fn ring<const BITS: usize>(codes: &[u8], weights: usize) -> Ring {
    let mut ring = [0; LONGEST];
    let length = weights * BITS;
    if weights == BLOCK {
        // A copy of a length that the compiler knows.
        ring[..BLOCK * BITS / 8].copy_from_slice(&codes[..BLOCK * BITS / 8]);
        ring[BLOCK * BITS / 8..][..4].copy_from_slice(&codes[..4]);
        return ring;
    }
    let codes = &codes[..length.div_ceil(8)];
    ring[..codes.len()].copy_from_slice(codes);
    for bit in length..length + 16 {
        // Overwrites the bits of the last byte that belong to no code.
        let again = codes[bit % length / 8] >> (bit % length % 8) & 1;
        ring[bit / 8] = ring[bit / 8] & !(1 << (bit % 8)) | again << (bit % 8);
    }
    ring
}

#[inline(always)]
fn decode_block<S: Simd, C: Computed, const BITS: usize>(simd: S, ring: &Ring, mask: u32, scale: f32, out: &mut [f32]) {
    let (groups, rest) = out.as_chunks_mut::<LANES>();
    for (i, group) in groups.iter_mut().enumerate() {
        let values = values::<_, C, BITS>(simd, ring, i, mask);
        *group = lanes!(i => values[i] * scale);
    }
    if !rest.is_empty() {
        let values = values::<_, C, BITS>(simd, ring, groups.len(), mask);
        store(lanes!(i => values[i] * scale), rest);
    }
}

/// The values of the sixteen states of group `i` of a block, without the scale.
#[inline(always)]
pub(super) fn values<S: Simd, C: Computed, const BITS: usize>(
    simd: S,
    ring: &Ring,
    i: usize,
    mask: u32,
) -> [f32; LANES] {
    let windows = simd.windows::<BITS>(&load(&ring[2 * BITS * i..]));
    C::values(simd, &lanes!(i => windows[i] & mask))
}
