//! From indices to weights.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::util::read_blocks;
use codec_api::{Bytes, Dtype, PayloadView, Result, RowReader, TensorSpec, check_rows};
use simd::{f16_to_f32, kernel, stream};

use super::points::with_length;
use super::{NAMES, VectorQuant};

/// Vectors decoded per step; the indices of each step begin at a byte.
const TILE: usize = 64;

/// The codebooks of a payload, in the tensor's own units, and the packed indices.
#[derive(Debug)]
pub(super) struct Reader {
    shape: (usize, usize),
    /// Weights of a vector.
    length: usize,
    stages: Vec<Packed>,
}

#[derive(Debug)]
struct Packed {
    bits: usize,
    book: Vec<f32>,
    indices: Bytes,
}

impl Reader {
    pub(super) fn open(codec: &VectorQuant, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let layout = codec.layout(spec);
        let exponent = payload.values::<i8>("exponent", Dtype::I8, &[1])?[0];
        // 2^exponent in f64, because f32 may underflow.
        let scale = f64::from_bits(((1023 + i64::from(exponent)) as u64) << 52);
        let mut stages = Vec::with_capacity(2);
        for (stage, [codebook, indices]) in layout.stages.iter().zip(NAMES) {
            let halves: Vec<u16> = payload.values(codebook, Dtype::F16, &[stage.size, layout.length])?;
            let mut book = vec![0.0; halves.len()];
            f16_to_f32(&halves, &mut book);
            for c in &mut book {
                *c = (f64::from(*c) * scale) as f32;
                if !c.is_finite() {
                    return Err(payload.corrupt(codebook, "a centroid is beyond the range of f32"));
                }
            }
            let indices = payload.bytes(indices, Dtype::U8, &[layout.index_bytes(stage)])?.clone();
            stages.push(Packed { bits: stage.bits, book, indices });
        }
        Ok(Self { shape: spec.matrix(), length: layout.length, stages })
    }
}

impl RowReader for Reader {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn granule(&self) -> NonZeroUsize {
        crate::rows_of_block(TILE * self.length, self.shape.1)
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        let (all, columns) = self.shape;
        let places = rows.start * columns..rows.end * columns;
        let decode = |tile: usize, out: &mut [f32]| dequantise(self, tile, out);
        with_length!(self.length, V => read_blocks::<{ TILE * V }>(all * columns, places, out, decode));
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| (stage.indices.len() + size_of_val(&*stage.book)) as u64).sum()
    }
}

impl Packed {
    /// The indices of one tile; 0 beyond the end.
    #[inline(always)]
    fn unpack(&self, tile: usize) -> [u16; TILE] {
        let (mut indices, mut bytes) = ([0; TILE], [0; TILE * 2 + 8]);
        let start = tile * TILE / 8 * self.bits;
        let packed = &self.indices[start..self.indices.len().min(start + TILE / 8 * self.bits)];
        bytes[..packed.len()].copy_from_slice(packed);
        let mask = (1 << self.bits) - 1;
        for (four, at) in indices.as_chunks_mut::<4>().0.iter_mut().zip((0..).step_by(4 * self.bits)) {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at / 8..at / 8 + 8]);
            // Four indices fit in the word; if they have 16 bits, they begin at a byte.
            let word = u64::from_le_bytes(word) >> (at % 8);
            for (i, index) in four.iter_mut().enumerate() {
                *index = (word >> (i * self.bits) & mask) as u16;
            }
        }
        indices
    }
}

/// Decodes weights from the tile `first` on.
fn dequantise(reader: &Reader, first: usize, out: &mut [f32]) {
    let (tile_len, mut left) = (TILE * reader.length, out.len());
    stream(out, |writer| {
        for tile in first..first + left.div_ceil(tile_len) {
            decode_tile(reader, tile, writer.next(left.min(tile_len)));
            left = left.saturating_sub(tile_len);
        }
    });
}

kernel! {
    /// Decodes one tile. This is a kernel of its own because the compiler does not inline a closure
    /// of this size, and would compile it without the level's instructions.
    fn decode_tile<'a>(_simd, reader: &'a Reader, tile: usize, out: &'a mut [f32]) {
        with_length!(reader.length, V => decode_tile_at::<V>(reader, tile, out));
    }
}

#[inline(always)]
fn decode_tile_at<const V: usize>(reader: &Reader, tile: usize, out: &mut [f32]) {
    let (vectors, rest) = out.as_chunks_mut::<V>();
    // If the last vector is full, this one is not used.
    let after = vectors.len() % TILE;
    let last = match reader.stages.as_slice() {
        [one] => {
            let (book, indices) = (one.book.as_chunks().0, one.unpack(tile));
            for (out, index) in vectors.iter_mut().zip(indices) {
                *out = entry(book, index);
            }
            entry(book, indices[after])
        }
        [one, other] => {
            let (book, indices) = (one.book.as_chunks().0, one.unpack(tile));
            let (other_book, others) = (other.book.as_chunks().0, other.unpack(tile));
            for ((out, index), other) in vectors.iter_mut().zip(indices).zip(others) {
                *out = both(entry(book, index), entry(other_book, other));
            }
            both(entry(book, indices[after]), entry(other_book, others[after]))
        }
        _ => [0.0; V],
    };
    rest.copy_from_slice(&last[..rest.len()]);
}

/// A centroid. An index beyond the codebook, which no encoder writes, means zeros.
#[inline(always)]
fn entry<const V: usize>(book: &[[f32; V]], index: u16) -> [f32; V] {
    *book.get(usize::from(index)).unwrap_or(&[0.0; V])
}

/// The sum, clamped to finite numbers.
#[inline(always)]
fn both<const V: usize>(a: [f32; V], b: [f32; V]) -> [f32; V] {
    let mut both = [0.0; V];
    for d in 0..V {
        both[d] = (a[d] + b[d]).clamp(f32::MIN, f32::MAX);
    }
    both
}
