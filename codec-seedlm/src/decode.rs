//! From bits to weights.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{Bytes, DecodeCx, Dtype, PayloadView, Result, RowReader, TensorSpec, check_rows};
use simd::kernel;

use crate::block::{Code, EXPONENTS, MAX_RANK, Shape, with_rank};
use crate::config::SeedLm;
use crate::grid::Grid;
use crate::lfsr::Lfsr;
use crate::planes::Planes;
use crate::sections::{BIAS, CODES, name};

/// Some quality levels of a payload, from the first on; their sections are checked.
#[derive(Debug)]
pub(crate) struct Levels {
    matrix: (usize, usize),
    shape: Shape,
    lfsr: Lfsr,
    layers: Vec<Layer>,
}

impl Levels {
    /// Opens `count` levels.
    pub(crate) fn open(
        config: &SeedLm,
        count: usize,
        spec: &TensorSpec,
        payload: &PayloadView<'_>,
        cx: &DecodeCx<'_>,
    ) -> Result<Self> {
        let (matrix, shape) = (spec.matrix(), config.shape());
        let layer = |level| cx.cancel.check().and_then(|()| Layer::read(config, level, spec, payload));
        let layers = (0..count).map(layer).collect::<Result<_>>()?;
        Ok(Self { matrix, shape, lfsr: Lfsr::new(shape.seed_bits), layers })
    }
}

impl RowReader for Levels {
    fn shape(&self) -> (usize, usize) {
        self.matrix
    }

    /// The rows that fit into one block.
    fn granule(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.shape.weights / self.matrix.1.max(1)).unwrap_or(NonZeroUsize::MIN)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.matrix, &rows, out)?;
        for (level, layer) in self.layers.iter().enumerate() {
            decode(&self.lfsr, self.shape, layer, rows.start * self.matrix.1, level > 0, out);
        }
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| size_of::<Layer>() + layer.blocks.bytes());
        (layers.sum::<usize>() + self.lfsr.bytes()) as u64
    }
}

/// One quality level of a payload.
#[derive(Debug)]
pub(crate) struct Layer {
    blocks: Blocks,
    scales: [(f32, f32); EXPONENTS],
}

/// The blocks of a level, packed or as planes.
#[derive(Debug)]
enum Blocks {
    Packed(Bytes),
    Planes(Planes),
}

impl Blocks {
    fn bytes(&self) -> usize {
        match self {
            Self::Packed(codes) => codes.len(),
            Self::Planes(planes) => planes.seeds.len() + planes.exponents.len() + planes.mantissas.len(),
        }
    }
}

impl Layer {
    /// Reads and checks the sections of a level.
    pub(crate) fn read(config: &SeedLm, level: usize, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let (shape, n, bias) = (config.shape(), spec.elements(), name(BIAS, level));
        let blocks = if config.coded {
            Blocks::Planes(Planes::read(shape, level, n.div_ceil(shape.weights), payload)?)
        } else {
            Blocks::Packed(payload.bytes(&name(CODES, level), Dtype::U8, &[shape.bytes(n)])?.clone())
        };
        let stored: i16 = payload.values(&bias, Dtype::I16, &[1])?[0];
        let grid = Grid::stored(stored, config.per_octave.get())
            .ok_or_else(|| payload.corrupt(&bias, format!("a bias of {stored} is beyond the range of f32")))?;
        Ok(Self { blocks, scales: grid.scales(shape) })
    }
}

kernel! {
    /// Adds a layer's weights from number `start` on to `out`, or sets `out` to them.
    pub(crate) fn decode<'a>(
        _simd,
        lfsr: &'a Lfsr,
        shape: Shape,
        layer: &'a Layer,
        start: usize,
        add: bool,
        out: &'a mut [f32],
    ) {
        let scales = &layer.scales;
        match &layer.blocks {
            Blocks::Packed(codes) => Decoder { lfsr, shape, scales, codes: &**codes, add }.decode(start, out),
            Blocks::Planes(codes) => Decoder { lfsr, shape, scales, codes, add }.decode(start, out),
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

impl Codes for Planes {
    #[inline(always)]
    fn code(&self, block: usize, shape: Shape) -> Code {
        let seed = read_bits(&self.seeds, block * shape.seed_bits as usize) as u32 & shape.seeds();
        let mut code = Code { seed, exponent: self.exponents[block], mantissas: [0; MAX_RANK] };
        for (mantissa, bits) in code.mantissas.iter_mut().zip(&self.mantissas[block * shape.rank..][..shape.rank]) {
            *mantissa = shape.mantissa(*bits);
        }
        code
    }
}

/// What decodes the blocks of a level.
struct Decoder<'a, C: ?Sized> {
    lfsr: &'a Lfsr,
    shape: Shape,
    scales: &'a [(f32, f32); EXPONENTS],
    codes: &'a C,
    add: bool,
}

impl<C: Codes + ?Sized> Decoder<'_, C> {
    #[inline(always)]
    fn decode(&self, start: usize, out: &mut [f32]) {
        with_rank!(self.shape.rank, P => self.decode_at::<P>(start, out));
    }

    #[inline(always)]
    fn decode_at<const P: usize>(&self, start: usize, out: &mut [f32]) {
        let size = self.shape.weights;
        let skipped = start % size;
        let (head, whole) = out.split_at_mut(out.len().min((size - skipped) % size));
        if !head.is_empty() {
            self.decode_block::<P>(start / size, skipped, head);
        }
        let first = start.div_ceil(size);
        for (i, out) in whole.chunks_mut(size).enumerate() {
            self.decode_block::<P>(first + i, 0, out);
        }
    }

    /// Decodes weights of a block, after the first `skipped`.
    #[inline(always)]
    fn decode_block<const P: usize>(&self, block: usize, skipped: usize, out: &mut [f32]) {
        let code = self.codes.code(block, self.shape);
        let (factor, power) = self.scales[usize::from(code.exponent)];
        // Bit 0 of the word belongs to the seed; the first element is the state after one step.
        let mut word = self.lfsr.word(code.seed) >> (1 + P * skipped);
        for w in out {
            let mut sum = 0;
            for (p, m) in code.mantissas[..P].iter().enumerate() {
                sum += self.shape.element_of_word(word, p) * i32::from(*m);
            }
            word >>= P;
            let value = sum as f32 * factor * power;
            // Keeps the result finite for any payload.
            *w = (if self.add { *w + value } else { value }).clamp(f32::MIN, f32::MAX);
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
