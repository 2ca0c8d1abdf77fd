//! Decodes sections, starting at any element.

use std::mem;
use std::ops::Range;

use codec_api::util::widen;
use codec_api::{Bytes, CodecError, Dtype, PayloadView, Result, RowReader, TensorSpec, check_rows};
use simd::{LANES, kernel, lanes, load, store};

use super::palette::Palette;
use super::{BLOCK, DATA, ESCAPES, ESCAPES_BEFORE, INDEX, LOW, TILE, escapes};

/// Decodes any range of a tensor's elements. It shares the payload's sections, and reads only the
/// parts that the range needs.
#[derive(Debug)]
pub(super) struct Decoder {
    matrix: (usize, usize),
    form: Form,
}

#[derive(Debug)]
enum Form {
    Packed(Packed),
    /// The stored bytes.
    Data(Bytes),
}

#[derive(Debug)]
pub(super) struct Packed {
    low: Bytes,
    index: Bytes,
    /// For each index, the float with the exponent of that index.
    pub(super) floats: [f32; LANES],
    escapes: Bytes,
    /// Little-endian U32.
    escapes_before: Bytes,
}

/// An element whose exponent is not in the palette.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escape {
    /// Its number among all elements.
    pub(super) place: usize,
    exponent: u8,
}

impl Escape {
    /// Its value, with this sign and mantissa.
    pub(super) fn value(&self, low: u8) -> f32 {
        join(f32::from_bits(u32::from(self.exponent) << 23), low)
    }
}

impl Decoder {
    /// The packed form, unless the stored bytes are there.
    pub(super) fn packed(&self) -> Option<&Packed> {
        if let Form::Packed(packed) = &self.form { Some(packed) } else { None }
    }

    /// Checks dtypes and shapes of all sections, and the palette.
    ///
    /// # Errors
    /// [`CodecError::MissingSection`] or [`CodecError::Corrupt`].
    pub(super) fn new(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        super::only_bf16(spec)?;
        if payload.has(DATA) {
            let form = Form::Data(payload.bytes(DATA, Dtype::BF16, spec.shape())?.clone());
            return Ok(Self { matrix: spec.matrix(), form });
        }
        let n = spec.elements();
        let packed = Packed {
            low: payload.bytes(LOW, Dtype::U8, &[n])?.clone(),
            index: payload.bytes(INDEX, Dtype::U8, &[n.div_ceil(2)])?.clone(),
            floats: Palette::read(payload)?.floats(),
            escapes: payload.byte_section(ESCAPES)?.clone(),
            escapes_before: payload.bytes(ESCAPES_BEFORE, Dtype::U32, &[n.div_ceil(BLOCK)])?.clone(),
        };
        if n % 2 == 1 && packed.index.last().is_some_and(|last| *last >= 16) {
            return Err(payload.corrupt(INDEX, "the nibble behind the last element is not 0"));
        }
        Ok(Self { matrix: spec.matrix(), form: Form::Packed(packed) })
    }

    /// Decodes the elements from `first` on to `out`, two bytes for each, little-endian. They must
    /// lie within the tensor.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] if the number of escapes differs from the stored counts. No other
    /// changed bit is detected here.
    pub(super) fn stored(&self, first: usize, out: &mut [u8]) -> Result<()> {
        match &self.form {
            Form::Packed(packed) => packed.read(first, first + out.len() / 2, out.as_chunks_mut().0),
            Form::Data(bytes) => {
                out.copy_from_slice(&bytes[2 * first..][..out.len()]);
                Ok(())
            }
        }
    }
}

impl RowReader for Decoder {
    fn shape(&self) -> (usize, usize) {
        self.matrix
    }

    fn read(&self, rows: Range<usize>, mut out: &mut [f32]) -> Result<()> {
        check_rows(self.matrix, &rows, out)?;
        let mut first = rows.start * self.matrix.1;
        let mut tile = [0; 2 * TILE];
        while !out.is_empty() {
            // Up to the end of a block, because a block's escapes are counted as a whole.
            let len = (TILE - first % BLOCK).min(out.len());
            let (part, later) = mem::take(&mut out).split_at_mut(len);
            let tile = &mut tile[..2 * len];
            self.stored(first, tile)?;
            widen(Dtype::BF16, tile, part)?;
            (first, out) = (first + len, later);
        }
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        let bytes = match &self.form {
            Form::Packed(Packed { low, index, escapes, escapes_before, .. }) => {
                low.len() + index.len() + escapes.len() + escapes_before.len()
            }
            Form::Data(bytes) => bytes.len(),
        };
        bytes as u64
    }
}

impl Packed {
    /// Signs and mantissas, and indices, from an element on that begins a byte of indices.
    pub(super) fn bytes(&self, first: usize) -> (&[u8], &[u8]) {
        (&self.low[first..], &self.index[first / 2..])
    }

    /// All escapes in order; `None` if there are more than `most`.
    ///
    /// # Errors
    /// As [`Decoder::stored`].
    pub(super) fn escapes(&self, most: usize) -> Result<Option<Vec<Escape>>> {
        if self.escapes.len() > most {
            return Ok(None);
        }
        let mut all = Vec::with_capacity(self.escapes.len());
        for (block, index) in self.index.chunks(BLOCK / 2).enumerate() {
            let mut exponents = self.escapes_of(block).ok_or_else(|| miscounted(block))?.iter();
            for place in escapes::places(index) {
                let exponent = *exponents.next().ok_or_else(|| miscounted(block))?;
                all.push(Escape { place: block * BLOCK + place, exponent });
            }
            if exponents.next().is_some() {
                return Err(miscounted(block));
            }
        }
        Ok(Some(all))
    }

    fn read(&self, first: usize, end: usize, out: &mut [[u8; 2]]) -> Result<()> {
        // Up to the element where a vector of indices begins.
        let start = first.next_multiple_of(LANES).min(end);
        let (head, rest) = out.split_at_mut(start - first);
        for (i, out) in (first..).zip(head) {
            *out = join_bits(self.floats[usize::from(self.index[i / 2] >> (i % 2 * 4) & 15)], self.low[i]);
        }
        expand(&self.low[start..end], &self.index[start / 2..end.div_ceil(2)], &self.floats, rest);
        (first / BLOCK..end.div_ceil(BLOCK)).try_for_each(|block| self.patch(block, first, out))
    }

    /// Sets the exponents of a block's escapes in `out`, which was decoded from `first` on.
    fn patch(&self, block: usize, first: usize, out: &mut [[u8; 2]]) -> Result<()> {
        let start = block * BLOCK;
        let index = &self.index[start / 2..self.index.len().min(start / 2 + BLOCK / 2)];
        let mut exponents = self.escapes_of(block).ok_or_else(|| miscounted(block))?.iter();
        for place in escapes::places(index) {
            let exponent = exponents.next().ok_or_else(|| miscounted(block))?;
            if let Some(out) = (start + place).checked_sub(first).and_then(|i| out.get_mut(i)) {
                let bits = u16::from_le_bytes(*out) & 0x807f | u16::from(*exponent) << 7;
                *out = bits.to_le_bytes();
            }
        }
        if exponents.next().is_some() { Err(miscounted(block)) } else { Ok(()) }
    }

    /// The exponents of a block's escapes; `None` if the section `escapes` is too short.
    fn escapes_of(&self, block: usize) -> Option<&[u8]> {
        let before = self.escapes_before.as_chunks().0;
        let place = |block: usize| before.get(block).map(|count| u32::from_le_bytes(*count) as usize);
        self.escapes.get(place(block)?..place(block + 1).unwrap_or(self.escapes.len()))
    }
}

fn miscounted(block: usize) -> CodecError {
    CodecError::corrupt(ESCAPES_BEFORE, format!("block {block} has another number of escapes"))
}

/// Combines an exponent with sign and mantissa, to a BF16 number.
#[inline(always)]
fn join_bits(exponent: f32, low: u8) -> [u8; 2] {
    let low = u16::from(low);
    ((exponent.to_bits() >> 16) as u16 | (low << 8 | low) & 0x807f).to_le_bytes()
}

/// Combines an exponent with sign and mantissa.
#[inline(always)]
pub(super) fn join(exponent: f32, low: u8) -> f32 {
    let low = u32::from(low);
    f32::from_bits(exponent.to_bits() | (low << 24 | low << 16) & 0x807f_0000)
}

kernel! {
    /// Decodes elements; the first index must be at the beginning of a byte. Escapes get an
    /// arbitrary exponent.
    fn expand<'a>(simd, low: &'a [u8], index: &'a [u8], floats: &'a [f32; LANES], out: &'a mut [[u8; 2]]) {
        for ((out, low), index) in out.chunks_mut(LANES).zip(low.chunks(LANES)).zip(index.chunks(LANES / 2)) {
            let mut bytes = [0; LANES / 2];
            bytes[..index.len()].copy_from_slice(index);
            let (codes, low) = (unpacked(bytes), load(low));
            let exponents = simd.lookup16(floats, &codes);
            store(lanes!(i => join_bits(exponents[i], low[i])), out);
        }
    }
}

/// Unpacks sixteen indices; the first of each byte is in the low nibble.
#[inline(always)]
fn unpacked(bytes: [u8; LANES / 2]) -> [u8; LANES] {
    let mut codes = [0; LANES];
    for (pair, byte) in codes.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        let byte = u16::from(byte);
        *pair = ((byte | byte << 4) & 0x0f0f).to_le_bytes();
    }
    codes
}
