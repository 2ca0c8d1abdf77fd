//! From codes to weights.

use std::ops::Range;

use codec_api::{Bytes, Dtype, PayloadView, Result, RowReader, TensorSpec, check_rows};
use half::f16;
use simd::{LANES, Simd, kernel, lanes, prefetch, store, stream};

use super::IntQuant;
use super::layout::Layout;
use super::scale::{power_of_two, valid_exponent};
use crate::packing::{unpack_all, unpack16, with_bits};

/// Bytes from the codes that a kernel reads to those that it prefetches: the prefetcher of the CPU
/// stops at the end of a page, which is often that of a row.
const AHEAD: usize = 2048;

/// A checked payload, with scales and zero points ready for the kernel.
#[derive(Debug)]
pub(super) struct Reader {
    layout: Layout,
    codes: Bytes,
    groups: Vec<Params>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Params {
    scale: f32,
    zero: f32,
}

impl Params {
    /// `step` is the stored F16 number.
    pub(super) fn new(step: f32, exponent: i8, zero: f32) -> Self {
        Self { scale: step * power_of_two(exponent.into()), zero }
    }

    #[inline(always)]
    pub(super) fn weight(self, code: f32) -> f32 {
        (code - self.zero) * self.scale
    }

    #[inline(always)]
    fn weights<S: Simd>(self, simd: S, codes: &[u8; LANES]) -> [f32; LANES] {
        let codes = simd.u8_to_f32(codes);
        lanes!(i => self.weight(codes[i]))
    }
}

/// The sections of a payload.
#[derive(Debug)]
pub(super) struct Sections {
    pub(super) layout: Layout,
    pub(super) codes: Bytes,
    /// F16 bits.
    pub(super) scales: Vec<u16>,
    pub(super) exponent: i8,
    /// Absent if symmetric.
    pub(super) zeros: Option<Vec<u8>>,
}

impl Sections {
    pub(super) fn open(codec: &IntQuant, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let layout = Layout::new(codec, spec);
        let codes = payload.bytes("codes", Dtype::U8, &[layout.rows, layout.row_len()])?.clone();
        let scales: Vec<u16> = payload.values("scales", Dtype::F16, &layout.group_shape())?;
        let exponent = payload.values::<i8>("exponent", Dtype::I8, &[1])?[0];
        if !valid_exponent(exponent) {
            return Err(payload.corrupt("exponent", format!("{exponent} is outside what an encoder writes")));
        }
        let zeros = if codec.symmetric {
            None
        } else {
            let packed = payload.bytes("zeros", Dtype::U8, &[layout.zeros_len()])?;
            Some(unpack_all(layout.bits, packed, scales.len()))
        };
        Ok(Self { layout, codes, scales, exponent, zeros })
    }
}

impl Reader {
    pub(super) fn open(codec: &IntQuant, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let Sections { layout, codes, scales, exponent, zeros } = Sections::open(codec, spec, payload)?;
        let zeros = zeros.unwrap_or_else(|| vec![codec.middle(); scales.len()]);
        let groups = scales
            .iter()
            .zip(zeros)
            .map(|(half, zero)| Params::new(f16::from_bits(*half).to_f32_const(), exponent, zero.into()));
        Ok(Self { layout, codes, groups: groups.collect() })
    }
}

impl RowReader for Reader {
    fn shape(&self) -> (usize, usize) {
        (self.layout.rows, self.layout.columns)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape(), &rows, out)?;
        decode_rows(&self.layout, &self.codes, &self.groups, rows, out);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        (self.codes.len() + size_of_val(&*self.groups)) as u64
    }
}

kernel! {
    /// Decodes `rows` of the codes and groups of some rows.
    pub(super) fn decode_rows<'a>(simd, layout: &'a Layout, codes: &'a [u8], groups: &'a [Params], rows: Range<usize>, out: &'a mut [f32]) {
        with_bits!(layout.bits, decode_bits::<_>(simd, layout, codes, groups, rows, out));
    }
}

#[inline(always)]
fn decode_bits<const BITS: usize, S: Simd>(
    simd: S,
    layout: &Layout,
    codes: &[u8],
    groups: &[Params],
    rows: Range<usize>,
    out: &mut [f32],
) {
    let piece = layout.piece();
    stream(out, |writer| {
        for row in rows {
            let packed = &codes[row * layout.row_len()..][..layout.row_len()];
            let groups = layout.of_row(groups, row);
            for (i, mut packed) in packed.chunks(piece / 8 * BITS).enumerate() {
                let ahead = row * layout.row_len() + i * (piece / 8 * BITS) + AHEAD;
                for line in (0..packed.len()).step_by(64) {
                    prefetch(codes, ahead + line);
                }
                let out = writer.next(piece.min(layout.columns - i * piece));
                let groups = &groups[layout.group_at(i * piece)..];
                let (blocks, rest) = out.as_chunks_mut::<LANES>();
                for (group, blocks) in groups.iter().zip(blocks.chunks_mut(layout.group_blocks())) {
                    // A copy stays in registers.
                    let group = *group;
                    let (codes, next) = packed.split_at(2 * BITS * blocks.len());
                    for (out, packed) in blocks.iter_mut().zip(codes.chunks_exact(2 * BITS)) {
                        *out = group.weights(simd, &unpack16::<BITS, S>(simd, packed));
                    }
                    packed = next;
                }
                if !rest.is_empty() {
                    let group = &groups[blocks.len() / layout.group_blocks()];
                    store(group.weights(simd, &unpack16::<BITS, S>(simd, packed)), rest);
                }
            }
        }
    });
}
