//! From codes to weights.

use std::ops::Range;

use codec_api::{Bytes, Dtype, PayloadView, Result, TensorSpec};
use half::f16;
use simd::{LANES, Simd, kernel, lanes, store, stream};

use super::IntQuant;
use super::layout::Layout;
use super::scale::{power_of_two, valid_exponent};
use crate::packing::{unpack_all, unpack16, with_bits};

/// A checked payload, with scales and zero points ready for the kernel.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) layout: Layout,
    codes: Bytes,
    groups: Vec<Params>,
}

#[derive(Clone, Copy, Debug)]
struct Params {
    scale: f32,
    zero: f32,
}

impl Params {
    #[inline(always)]
    fn weights<S: Simd>(self, simd: S, codes: &[u8; LANES]) -> [f32; LANES] {
        let codes = simd.u8_to_f32(codes);
        lanes!(i => (codes[i] - self.zero) * self.scale)
    }
}

impl Prepared {
    pub(super) fn read(codec: &IntQuant, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let layout = Layout::new(codec, spec);
        let codes = payload.bytes("codes", Dtype::U8, &[layout.rows, layout.row_len()])?.clone();
        let scales: Vec<u16> = payload.values("scales", Dtype::F16, &layout.group_shape())?;
        let exponent = payload.values::<i8>("exponent", Dtype::I8, &[1])?[0];
        if !valid_exponent(exponent) {
            return Err(payload.corrupt("exponent", format!("{exponent} is outside what an encoder writes")));
        }
        let unit = power_of_two(exponent.into());
        let zeros = if codec.symmetric {
            vec![codec.middle(); scales.len()]
        } else {
            let packed = payload.bytes("zeros", Dtype::U8, &[layout.zeros_len()])?;
            unpack_all(layout.bits, packed, scales.len())
        };
        let groups = scales
            .iter()
            .zip(zeros)
            .map(|(half, zero)| Params { scale: f16::from_bits(*half).to_f32_const() * unit, zero: f32::from(zero) });
        Ok(Self { layout, codes, groups: groups.collect() })
    }

    /// Decodes rows of the matrix view; `out` has exactly their size.
    pub(super) fn decode_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        decode_rows(self, rows, out);
    }

    /// Bytes held in memory for the weights.
    pub(super) fn resident_bytes(&self) -> usize {
        self.codes.len() + size_of_val(self.groups.as_slice())
    }
}

kernel! {
    fn decode_rows<'a>(simd, prepared: &'a Prepared, rows: Range<usize>, out: &'a mut [f32]) {
        with_bits!(prepared.layout.bits, decode_bits::<_>(simd, prepared, rows, out));
    }
}

#[inline(always)]
fn decode_bits<const BITS: usize, S: Simd>(simd: S, prepared: &Prepared, rows: Range<usize>, out: &mut [f32]) {
    let layout = &prepared.layout;
    let piece = layout.piece();
    stream(out, |writer| {
        for row in rows {
            let packed = &prepared.codes[row * layout.row_len()..][..layout.row_len()];
            let groups = layout.of_row(&prepared.groups, row);
            for (i, packed) in packed.chunks(piece / 8 * BITS).enumerate() {
                let out = writer.next(piece.min(layout.columns - i * piece));
                let groups = &groups[layout.group_at(i * piece)..];
                let (blocks, rest) = out.as_chunks_mut::<LANES>();
                let mut codes = packed.chunks_exact(2 * BITS);
                for (group, blocks) in groups.iter().zip(blocks.chunks_mut(layout.group_blocks())) {
                    for (out, packed) in blocks.iter_mut().zip(&mut codes) {
                        *out = group.weights(simd, &unpack16::<BITS, S>(simd, packed));
                    }
                }
                if !rest.is_empty() {
                    let packed = &packed[blocks.len() * 2 * BITS..];
                    let group = &groups[blocks.len() / layout.group_blocks()];
                    store(group.weights(simd, &unpack16::<BITS, S>(simd, packed)), rest);
                }
            }
        }
    });
}
