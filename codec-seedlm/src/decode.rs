//! From bits to weights.

use codec_api::{Dtype, PayloadView, Result, TensorSpec};
use simd::kernel;

use crate::block::{Code, EXPONENTS, MAX_RANK, Shape, with_rank};
use crate::config::SeedLm;
use crate::grid::Grid;
use crate::lfsr::Lfsr;
use crate::planes::Planes;
use crate::sections::{BIAS, CODES, name};

/// One quality level of a payload; its sections are checked.
pub(crate) struct Layer<'a> {
    pub(crate) blocks: Blocks<'a>,
    pub(crate) grid: Grid,
}

/// The blocks of a level, packed or as planes.
pub(crate) enum Blocks<'a> {
    Packed(&'a [u8]),
    Planes(Planes<'a>),
}

impl<'a> Layer<'a> {
    pub(crate) fn read(config: &SeedLm, level: usize, spec: &TensorSpec, payload: &PayloadView<'a>) -> Result<Self> {
        let (shape, n, bias) = (config.shape(), spec.elements(), name(BIAS, level));
        let blocks = if config.coded {
            Blocks::Planes(Planes::read(shape, level, n.div_ceil(shape.weights), payload)?)
        } else {
            Blocks::Packed(payload.bytes(&name(CODES, level), Dtype::U8, &[shape.bytes(n)])?)
        };
        let stored: i16 = payload.values(&bias, Dtype::I16, &[1])?[0];
        let grid = Grid::stored(stored, config.per_octave.get())
            .ok_or_else(|| payload.corrupt(&bias, format!("a bias of {stored} is beyond the range of f32")))?;
        Ok(Self { blocks, grid })
    }
}

kernel! {
    /// Adds a layer's weights to `out`, or sets `out` to them.
    pub(crate) fn decode<'a>(_simd, lfsr: &'a Lfsr, shape: Shape, layer: &'a Layer<'a>, add: bool, out: &'a mut [f32]) {
        let scales = layer.grid.scales(shape);
        match &layer.blocks {
            Blocks::Packed(codes) => with_rank!(shape.rank, P => decode_at::<P, _>(lfsr, shape, *codes, &scales, add, out)),
            Blocks::Planes(planes) => with_rank!(shape.rank, P => decode_at::<P, _>(lfsr, shape, planes, &scales, add, out)),
        }
    }
}

/// Access to blocks by number. A trait, because a closure could be left out of line.
trait Codes {
    fn code(&self, block: usize, shape: Shape) -> Code;
}

impl Codes for [u8] {
    #[inline(always)]
    fn code(&self, block: usize, shape: Shape) -> Code {
        Code::from_bits(read_bits(self, block * shape.bits()), shape)
    }
}

impl Codes for Planes<'_> {
    #[inline(always)]
    fn code(&self, block: usize, shape: Shape) -> Code {
        let seed = read_bits(self.seeds, block * shape.seed_bits as usize) as u32 & shape.seeds();
        let mut code = Code { seed, exponent: self.exponents[block], mantissas: [0; MAX_RANK] };
        for (mantissa, bits) in code.mantissas.iter_mut().zip(&self.mantissas[block * shape.rank..][..shape.rank]) {
            *mantissa = shape.mantissa(*bits);
        }
        code
    }
}

#[inline(always)]
fn decode_at<const P: usize, C: Codes + ?Sized>(
    lfsr: &Lfsr,
    shape: Shape,
    codes: &C,
    scales: &[(f32, f32); EXPONENTS],
    add: bool,
    out: &mut [f32],
) {
    for (block, out) in out.chunks_mut(shape.weights).enumerate() {
        let code = codes.code(block, shape);
        let (factor, power) = scales[usize::from(code.exponent)];
        // Bit 0 of the word belongs to the seed; the first element is the state after one step.
        let mut word = lfsr.word(code.seed) >> 1;
        for w in out {
            let mut sum = 0;
            for (p, m) in code.mantissas[..P].iter().enumerate() {
                sum += shape.element_of_word(word, p) * i32::from(*m);
            }
            word >>= P;
            let value = sum as f32 * factor * power;
            // Keeps the result finite for any payload.
            *w = (if add { *w + value } else { value }).clamp(f32::MIN, f32::MAX);
        }
    }
}

/// At least 57 bits from `place` on (the widest block has 52). Bits beyond the end are 0.
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
