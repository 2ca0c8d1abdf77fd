//! From bits to weights.

use codec_api::{Dtype, PayloadView, Result, TensorSpec};
use simd::kernel;

use crate::block::{Code, Shape, with_rank};
use crate::config::SeedLm;
use crate::grid::Grid;
use crate::layers::names;
use crate::lfsr::Lfsr;

/// One quality level of a payload: its sections, checked.
pub(crate) struct Layer<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) grid: Grid,
}

impl<'a> Layer<'a> {
    pub(crate) fn read(config: &SeedLm, level: usize, spec: &TensorSpec, payload: &PayloadView<'a>) -> Result<Self> {
        let [codes, bias] = names(level);
        let bytes = payload.bytes(&codes, Dtype::U8, &[config.shape().bytes(spec.elements())])?;
        let stored: i16 = payload.values(&bias, Dtype::I16, &[1])?[0];
        let grid = Grid::stored(stored, config.per_octave.get())
            .ok_or_else(|| payload.corrupt(&bias, format!("a bias of {stored} is beyond the range of f32")))?;
        Ok(Self { codes: bytes, grid })
    }
}

kernel! {
    /// Adds a layer's weights to `out`, or sets `out` to them.
    pub(crate) fn decode<'a>(_simd, lfsr: &'a Lfsr, shape: Shape, layer: &'a Layer<'a>, add: bool, out: &'a mut [f32]) {
        with_rank!(shape.rank, P => decode_at::<P>(lfsr, shape, layer, add, out));
    }
}

#[inline(always)]
fn decode_at<const P: usize>(lfsr: &Lfsr, shape: Shape, layer: &Layer<'_>, add: bool, out: &mut [f32]) {
    let scales = layer.grid.scales(shape);
    for (block, out) in out.chunks_mut(shape.weights).enumerate() {
        let code = Code::from_bits(read_bits(layer.codes, block * shape.bits()), shape);
        let (factor, power) = scales[usize::from(code.exponent)];
        // Bit 0 of the word is the seed's; the first element is the state after one step.
        let mut word = lfsr.word(code.seed) >> 1;
        for w in out {
            let mut sum = 0;
            for (p, m) in code.mantissas[..P].iter().enumerate() {
                sum += shape.element_of_word(word, p) * i32::from(*m);
            }
            word >>= P;
            let value = sum as f32 * factor * power;
            // Finite, whatever the payload.
            *w = (if add { *w + value } else { value }).clamp(f32::MIN, f32::MAX);
        }
    }
}

/// The bits from `place` on, 57 of them or more: the widest block has 52. Bits beyond the end are 0.
#[inline(always)]
fn read_bits(bytes: &[u8], place: usize) -> u64 {
    let bytes = &bytes[place / 8..];
    let word = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        word
    });
    u64::from_le_bytes(word) >> (place % 8)
}
